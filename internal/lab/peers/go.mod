module penstock/internal/lab/peers

go 1.26.0

require (
	github.com/goburrow/modbus v0.1.0
	github.com/simonvetter/modbus v1.6.3
)

require github.com/goburrow/serial v0.1.0 // indirect
