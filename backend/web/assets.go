package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// asset is a file that a page refers to: by a name that holds a hash of its
// content, so that a browser keeps it for ever and never has an old one.
type asset struct {
	body, zipped []byte
	contentType  string
}

type assets struct {
	byPath map[string]asset  // "style.0a1b2c3d.css"
	paths  map[string]string // "style.css" → "/assets/style.0a1b2c3d.css"
}

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func loadAssets() (*assets, error) {
	a := &assets{byPath: map[string]asset{}, paths: map[string]string{}}
	return a, fs.WalkDir(assetFiles, "assets", func(name string, d fs.DirEntry, err error) error {
		contentType := contentTypes[path.Ext(name)]
		if err != nil || d.IsDir() || contentType == "" { // licences are not served
			return err
		}
		body, err := assetFiles.ReadFile(name)
		if err != nil {
			return err
		}
		var zipped bytes.Buffer
		z, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(body); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		name = strings.TrimPrefix(name, "assets/")
		ext := path.Ext(name)
		hashed := strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		a.byPath[hashed] = asset{body: body, zipped: zipped.Bytes(), contentType: contentType}
		a.paths[name] = "/assets/" + hashed
		return nil
	})
}

// path is what a page writes for an asset.
func (a *assets) path(name string) (string, error) {
	p, ok := a.paths[name]
	if !ok {
		return "", fmt.Errorf("there is no asset %q", name)
	}
	return p, nil
}

func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.byPath[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.body
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body) //nolint:errcheck // the browser went away
	}
}
