package federated

// Watched makes a controller without a manager note which kinds it would watch.
func (c *Controller) Watched(seen func(services, exports string)) {
	c.watch = func(k kinds) error { seen(k.services.Kind, k.exports.Kind); return nil }
}

// Asking and OfService decide what changes are looked at.
var (
	Asking    = asking
	OfService = ofService
)
