module penstock/internal/lab/peers

go 1.26.0

require (
	github.com/goburrow/modbus v0.1.0
	github.com/simonvetter/modbus v1.6.3
	go.etcd.io/bbolt v1.5.0
)

require (
	github.com/goburrow/serial v0.1.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
)
