package pumpsim

import (
	"fmt"
	"slices"
	"strings"

	"penstock/fieldbus/pumpsim/physics"
	"penstock/fieldbus/pumpsim/rtu"
)

// model is a kind of pump that a line can have.
type model struct {
	name, title string
	kind        rtu.Map
	id          rtu.Identity
	physics     func() physics.Model
	pumps       int
}

// Families and types are those of GENIbus (2,148) and (2,149), which the
// module repeats in registers 30 to 32.
var models = []model{
	{"magna3", "circulator with a CIM module", rtu.Magna, rtu.Identity{Family: 1, Type: 10, Version: 3}, physics.Circulator, 1},
	{"epump", "multistage pump with MGE motor and a CIM 200 module", rtu.Pump, rtu.Identity{Family: 2, Type: 7, Version: 2}, physics.Multistage, 1},
	{"booster", "booster set of three pumps behind one module", rtu.Booster, rtu.Identity{Family: 21, Type: 1, Version: 1}, physics.Multistage, 3},
	{"solar", "borehole pump on a solar drive, with a register map of its own", rtu.Solar, rtu.Identity{}, physics.Borehole, 1},
}

// Models are the names of the models that a line can have.
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
