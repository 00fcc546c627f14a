package rtu

import (
	"encoding/binary"
	"math"

	"penstock/fieldbus/pumpsim/physics"
)

// drive is the map of a drive that no maker sells: the one of
// docs/families/example-ksb-like.yaml. It holds what the maps of other makes hold:
// floating-point numbers, 64 bits with the low register first, swapped bytes, an
// offset, coils and discrete inputs. Its numbers travel as they are printed.
type drive struct {
	u     *Unit
	coils [16]bool
}

// firstValue is the first of the drive's registers, and values is how many it has.
const (
	firstValue = 1000
	values     = 20
	inputs     = 24
)

// Read is Registers'.
func (d *drive) Read(start, count int) ([]uint16, Exception) {
	if start < firstValue || start+count > firstValue+values {
		return nil, IllegalAddress
	}
	var all [values]uint16
	st := &d.u.state
	float := func(at int, v float64) {
		bits := math.Float32bits(float32(v))
		all[at], all[at+1] = uint16(bits>>16), uint16(bits)
	}
	float(0, float64(st.Head)*metreBar)
	float(2, float64(st.Flow))
	float(4, float64(st.Power)/1000)
	wattHours := uint64(float64(st.Energy) / 3600)
	for i := range 4 {
		all[6+i] = uint16(wattHours >> (16 * i))
	}
	temperature := raw(float64(st.MotorTemperature) + 40)
	all[10] = temperature<<8 | temperature>>8
	if st.Speed > 0 {
		all[11] = 1
	}
	all[12] = uint16(st.Alarm)
	return all[start-firstValue:][:count], 0
}

// Write is Registers'. The drive is told by coils only.
func (d *drive) Write(int, []uint16) Exception { return IllegalAddress }

// bits are the drive's coils, or its discrete inputs.
func (d *drive) bits(function byte) []bool {
	if function == readCoils {
		return d.coils[:]
	}
	in := make([]bool, inputs)
	in[0] = d.u.state.Alarm != 0
	in[1] = false // it is in remote
	return in
}

// switchCoil switches a coil; the first one is the motor's.
func (d *drive) switchCoil(coil int, on bool) Exception {
	if coil >= len(d.coils) {
		return IllegalAddress
	}
	if d.coils[coil] = on; coil == 0 {
		b := d.u.plant.Bus()
		b.On, b.Control = on, physics.ConstantFrequency
		d.u.plant.SetBus(b)
	}
	return 0
}

// answerBits answers functions 1, 2, 5 and 15 (application protocol, chapters 6.1,
// 6.2, 6.5 and 6.11). What it says is no register, so that the answer has no Values.
func (d *drive) answerBits(a *Answer, data []byte) []byte {
	if len(data) < 4 {
		a.Exception = IllegalValue
		return nil
	}
	a.Start = int(binary.BigEndian.Uint16(data))
	count := int(binary.BigEndian.Uint16(data[2:]))
	switch a.Function {
	case writeCoil:
		if len(data) != 4 || count != 0 && count != 0xFF00 {
			a.Exception = IllegalValue
			return nil
		}
		if a.Exception = d.switchCoil(a.Start, count != 0); a.Exception != 0 {
			return nil
		}
		return d.u.head(a, data...)
	case writeCoils:
		if len(data) < 5 || count < 1 || int(data[4]) != (count+7)/8 || len(data) != 5+(count+7)/8 {
			a.Exception = IllegalValue
			return nil
		}
		if a.Start+count > len(d.coils) {
			a.Exception = IllegalAddress
			return nil
		}
		for i := range count {
			d.switchCoil(a.Start+i, data[5+i/8]>>(i%8)&1 == 1)
		}
		return d.u.head(a, data[:4]...)
	}
	all := d.bits(a.Function)
	if count < 1 || a.Start+count > len(all) || len(data) != 4 {
		a.Exception = IllegalAddress
		return nil
	}
	packed := make([]byte, (count+7)/8)
	for i, on := range all[a.Start : a.Start+count] {
		if on {
			packed[i/8] |= 1 << (i % 8)
		}
	}
	return d.u.head(a, append([]byte{byte(len(packed))}, packed...)...)
}
