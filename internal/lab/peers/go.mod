module penstock/internal/lab/peers

go 1.26.0

require (
	github.com/goburrow/modbus v0.1.0
	github.com/grid-x/modbus v0.0.0-20240503115206-582f2ab60a18
	github.com/sigstore/sigstore v1.10.6
	github.com/simonvetter/modbus v1.6.3
	github.com/theupdateframework/go-tuf/v2 v2.4.2
	go.etcd.io/bbolt v1.5.0
)

require (
	github.com/goburrow/serial v0.1.0 // indirect
	github.com/google/go-containerregistry v0.20.7 // indirect
	github.com/grid-x/serial v0.0.0-20211107191517-583c7356b3aa // indirect
	github.com/opencontainers/go-digest v1.0.0 // indirect
	github.com/secure-systems-lab/go-securesystemslib v0.11.0 // indirect
	github.com/sigstore/protobuf-specs v0.5.0 // indirect
	golang.org/x/crypto v0.50.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
	golang.org/x/term v0.42.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20250825161204-c5933d9347a5 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
