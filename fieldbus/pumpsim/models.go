package pumpsim

import (
	"fmt"
	"slices"
	"strings"

	"penstock/fieldbus/pumpsim/geni"
	"penstock/fieldbus/pumpsim/physics"
	"penstock/fieldbus/pumpsim/rtu"
)

// model is a kind of pump that a line can have.
type model struct {
	name    string
	kind    rtu.Map // its register map; empty if it is not on Modbus
	id      rtu.Identity
	geni    *geni.Kind // its items; nil if it is not on GENIbus
	physics func() physics.Model
	pumps   int
}

// Families and types on Modbus are those of GENIbus (2,148) and (2,149), which the
// module repeats in registers 30 to 32.
var models = []model{
	// A circulator: with a CIM module, or on GENIbus.
	{"magna3", rtu.Magna, rtu.Identity{Family: 1, Type: 10, Version: 3}, &geni.Magna3, physics.Circulator, 1},
	// A multistage pump with MGE motor.
	{"epump", rtu.Pump, rtu.Identity{Family: 2, Type: 7, Version: 2}, &geni.MGE, physics.Multistage, 1},
	// A booster set of three pumps.
	{"booster", rtu.Booster, rtu.Identity{Family: 21, Type: 1, Version: 1}, &geni.MultiE, physics.Multistage, 3},
	// A borehole pump on a solar drive, which has a register map of its own.
	{"solar", rtu.Solar, rtu.Identity{}, nil, physics.Borehole, 1},
	// A pump on a drive of a made-up make: docs/families/example-ksb-like.yaml.
	{"drive", rtu.Drive, rtu.Identity{}, nil, physics.Borehole, 1},
	// Circulators of earlier generations, and a motor's protection.
	{"magna", "", rtu.Identity{}, &geni.Magna, physics.Circulator, 1},
	{"upe", "", rtu.Identity{}, &geni.UPE, physics.Circulator, 1},
	{"upe3", "", rtu.Identity{}, &geni.UPE3, physics.Circulator, 1},
	{"mp204", "", rtu.Identity{}, &geni.MP204, physics.Multistage, 1},
}

// Models are the names of the models that a line can have. solar and drive are on
// Modbus only; magna, upe, upe3 and mp204 are on GENIbus only.
func Models() (names []string) {
	for _, m := range models {
		names = append(names, m.name)
	}
	return names
}

func findModel(name string) (model, error) {
	if name == "" {
		name = models[0].name
	}
	i := slices.IndexFunc(models, func(m model) bool { return m.name == name })
	if i < 0 {
		return model{}, fmt.Errorf("there is no pump model %q; there are %s", name, strings.Join(Models(), ", "))
	}
	return models[i], nil
}
