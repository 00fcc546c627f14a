package rtu

// boosterBlocks are those of the single pumps of a set, from register 401 in
// steps of ten.
func boosterBlocks(pumps int) (blocks []block) {
	for i := range min(pumps, 8) {
		first := 401 + 10*i
		blocks = append(blocks, block{first: first, last: first + 8, registers: func(m *module, set func(int, uint16)) {
			s, model := &m.u.pumps[i], m.u.plant.Model()
			v := uint16(0)
			if m.u.state.Remote {
				v |= 1
			}
			if s.On {
				v |= 2
			}
			if s.Alarm != 0 {
				v |= 4
			}
			set(first, v)
			set(first+1, uint16(s.Alarm))
			set32(set, first+2, s.Running.Hours())
			set(first+4, ratio(float64(s.Frequency/model.NominalFrequency)))
			set(first+5, raw(float64(s.Current)*10))
			set(first+6, raw(float64(s.Power)/10))
			set(first+7, temperature(s.MotorTemperature))
			source := uint16(sourceBus)
			if !m.u.state.Remote {
				source = sourcePanel
			}
			set(first+8, source)
		}})
	}
	return blocks
}
