// Command tuf is go-tuf, for the test that holds Penstock's own code against it.
//
//	tuf verify TARGETS ROOT NEXT…   read root metadata and what follows it, then targets metadata
//	tuf sign DIR PEM                write 1.root.json, 2.root.json (another key) and targets.json
package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

func main() {
	var err error
	switch {
	case len(os.Args) > 3 && os.Args[1] == "verify":
		err = verify(os.Args[2], os.Args[3:])
	case len(os.Args) == 4 && os.Args[1] == "sign":
		err = sign(os.Args[2], os.Args[3])
	default:
		err = errors.New("usage: tuf verify TARGETS ROOT NEXT… | sign DIR PEM")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tuf:", err)
		os.Exit(1)
	}
}

func verify(targetsFile string, roots []string) error {
	first, err := os.ReadFile(roots[0])
	if err != nil {
		return err
	}
	trusted, err := trustedmetadata.New(first)
	if err != nil {
		return fmt.Errorf("%s: %w", roots[0], err)
	}
	for _, name := range roots[1:] {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := trusted.UpdateRoot(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	targets, err := metadata.Targets().FromFile(targetsFile)
	if err != nil {
		return err
	}
	if err := trusted.Root.VerifyDelegate(metadata.TARGETS, targets); err != nil {
		return fmt.Errorf("%s: %w", targetsFile, err)
	}
	file, ok := targets.Signed.Targets["roots.pem"]
	if !ok || file.Custom == nil {
		return errors.New("there is no target roots.pem with a custom part")
	}
	var custom struct{ PEM string }
	if err := json.Unmarshal(*file.Custom, &custom); err != nil {
		return err
	}
	if err := file.VerifyLengthHashes([]byte(custom.PEM)); err != nil {
		return err
	}
	fmt.Printf("root %d, targets %d\n%s", trusted.Root.Signed.Version, targets.Signed.Version, custom.PEM)
	return nil
}

func sign(dir, pem string) error {
	expires := time.Now().Add(time.Hour)
	var keys [2]ed25519.PrivateKey
	for i := range keys {
		var err error
		if _, keys[i], err = ed25519.GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	root := metadata.Root(expires)
	for version, key := range keys {
		for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
			k, err := metadata.KeyFromPublicKey(key.Public())
			if err != nil {
				return err
			}
			for _, id := range root.Signed.Roles[role].KeyIDs {
				if err := root.Signed.RevokeKey(id, role); err != nil {
					return err
				}
			}
			if err := root.Signed.AddKey(k, role); err != nil {
				return err
			}
		}
		root.Signed.Version = int64(version + 1)
		root.ClearSignatures()
		for _, by := range keys[:version+1] {
			if err := add(root.Sign, by); err != nil {
				return err
			}
		}
		if err := root.ToFile(filepath.Join(dir, fmt.Sprintf("%d.root.json", version+1)), version == 0); err != nil {
			return err
		}
	}
	content, err := os.ReadFile(pem)
	if err != nil {
		return err
	}
	text, err := json.Marshal(map[string]string{"pem": string(content)})
	if err != nil {
		return err
	}
	targets := metadata.Targets(expires)
	targets.Signed.Version = 7
	sum := sha256.Sum256(content)
	custom := json.RawMessage(text)
	targets.Signed.Targets["roots.pem"] = &metadata.TargetFiles{Length: int64(len(content)), Hashes: metadata.Hashes{"sha256": sum[:]}, Custom: &custom}
	targets.Signed.Targets["firmware/rpi-1.2.3"] = &metadata.TargetFiles{Length: 1, Hashes: metadata.Hashes{"sha256": sum[:]}}
	if err := add(targets.Sign, keys[1]); err != nil {
		return err
	}
	return targets.ToFile(filepath.Join(dir, "targets.json"), true)
}

func add(sign func(signature.Signer) (*metadata.Signature, error), key ed25519.PrivateKey) error {
	s, err := signature.LoadSigner(key, crypto.Hash(0))
	if err == nil {
		_, err = sign(s)
	}
	return err
}
