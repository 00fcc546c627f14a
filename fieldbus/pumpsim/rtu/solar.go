package rtu

import (
	"math"

	"penstock/fieldbus/pumpsim/physics"
)

// solar is the register map of a solar drive. Its numbers are the parameters'
// and travel as they are; the frequency may be written.
type solar struct{ u *Unit }

// Bits of the drive's status word.
const (
	solarReady = 1 << 1
	solarRun   = 1 << 2
	solarFault = 1 << 3
)

// Read is Registers'. Only runs of parameters that exist can be read.
func (s *solar) Read(start, count int) ([]uint16, Exception) {
	values := make([]uint16, count)
	for i := range values {
		v, ok := s.register(start + i)
		if !ok {
			return nil, IllegalAddress
		}
		values[i] = v
	}
	return values, 0
}

func (s *solar) register(reg int) (uint16, bool) {
	st, model := &s.u.state, s.u.plant.Model()
	switch reg {
	case 1:
		return raw(float64(st.Frequency) * 100), true
	case 2:
		return raw(float64(st.Speed)), true
	case 3, 45:
		return raw(float64(st.Current) * 10), true
	case 4:
		rated := float64(model.RatedPower) / (2 * math.Pi * float64(model.NominalFrequency) / model.PolePairs)
		return raw(float64(st.Torque) / rated * 1000), true
	case 5:
		return raw(float64(st.Shaft/model.RatedPower) * 1000), true
	case 6:
		return raw(float64(st.Motor) * 10), true
	case 7:
		return raw(float64(st.Link)), true
	case 8:
		return raw(float64(st.ConverterTemperature) * 10), true
	case 9:
		return raw(float64(st.MotorTemperature/model.MotorTrip) * 1000), true
	case 37:
		return uint16(st.Alarm), true
	case 43:
		v := uint16(solarReady)
		if st.Speed > 0 {
			v |= solarRun
		}
		if st.Alarm != 0 {
			v = v&^solarReady | solarFault
		}
		return v, true
	case 1914:
		return raw(float64(st.Link) * 0.97), true
	case 1937:
		return raw(float64(st.Energy) / joulesKWh / 1000), true
	case 1938:
		return raw(float64(st.Power) / 1000), true
	case 1956:
		return raw(float64(st.Flow) * 1000 / 60), true
	case 1982:
		return raw(820 + 40*float64(st.Mains-model.Mains)/float64(model.Mains)*10), true
	}
	// Parameters 38 to 44 are read over together with their neighbours.
	return 0, reg >= 38 && reg <= 44
}

// Write is Registers'. Parameter 1 sets the frequency, in 0.01 Hz.
func (s *solar) Write(start int, values []uint16) Exception {
	if start != 1 || len(values) != 1 {
		return IllegalAddress
	}
	p := s.u.plant
	share := float64(values[0]) / 100 / float64(p.Model().NominalFrequency)
	if share > p.Model().MaxFrequency {
		return IllegalValue
	}
	b := p.Bus()
	b.On, b.Control, b.Setpoint = share > 0, physics.ConstantFrequency, share
	p.SetBus(b)
	return 0
}
