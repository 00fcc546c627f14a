module penstock/internal/lab/peers

go 1.26.0

require (
	github.com/goburrow/modbus v0.1.0
	github.com/grid-x/modbus v0.0.0-20240503115206-582f2ab60a18
	github.com/simonvetter/modbus v1.6.3
	go.etcd.io/bbolt v1.5.0
)

require (
	github.com/goburrow/serial v0.1.0 // indirect
	github.com/grid-x/serial v0.0.0-20211107191517-583c7356b3aa // indirect
	golang.org/x/sys v0.45.0 // indirect
)
