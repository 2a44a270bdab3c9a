package exports

import (
	"github.com/hansa-dev/hansa/federation/clusterset"
)

// export returns what is known of the site's export of a service: what was read, else what was restored.
func (s *site) export(name key) (clusterset.Export, bool) {
	var before clusterset.Export
	restored := false
	if s.record != nil {
		before, restored = s.record.Known.Exports[name]
	}
	if !s.feeds[kindExports].listed {
		return before, restored
	}
	e := s.exports[name]
	if e == nil {
		return clusterset.Export{}, false
	}
	export := clusterset.Export{Created: e.created}
	switch {
	case s.feeds[kindServices].listed:
		if service := s.services[name]; service != nil {
			export.Properties = service.properties(e)
		}
	case restored:
		export.Properties = e.relabel(before.Properties)
	default:
		return clusterset.Export{}, false // an export without properties would say that there is no Service
	}
	return export, true
}

// endpoints returns the endpoints of a service, and whether they are known.
func (s *site) endpoints(name key) (clusterset.Endpoints, bool) {
	if s.feeds[kindSlices].listed {
		return s.slices.endpoints(name, &s.nodes), true
	}
	if s.record == nil {
		return clusterset.Endpoints{}, false
	}
	endpoints, known := s.record.Known.Endpoints[name]
	return endpoints, known
}

// imported returns what the derived Service of a global one says, and whether there is one.
func (s *site) imported(global key) (clusterset.Import, bool) {
	if s.feeds[kindServices].listed {
		return s.derived.of(global)
	}
	if s.record == nil {
		return clusterset.Import{}, false
	}
	i, known := s.record.Known.Imports[global]
	return i, known
}

// show brings the builder up to date with one export.
func (s *site) show(name key) {
	if s.id == "" {
		return
	}
	_, was := s.shown[name]
	export, is := s.export(name)
	switch {
	case is:
		if s.table.builder.SetExport(s.id, name, export) {
			s.version++
		}
		if !was {
			s.shown[name] = 0
			s.showEndpoints(name)
		}
	case was:
		s.table.builder.RemoveExport(s.id, name)
		s.table.builder.RemoveEndpoints(s.id, name)
		s.total -= s.shown[name]
		delete(s.shown, name)
		clusterEndpoints.WithLabelValues(s.member.Name).Set(float64(s.total))
		s.version++
	}
}

// showEndpoints brings the builder up to date with the endpoints of one service; those of services that are not exported
// concern nobody.
func (s *site) showEndpoints(name key) {
	if _, exported := s.shown[name]; !exported || s.id == "" {
		return
	}
	endpoints, known := s.endpoints(name)
	var changed bool
	if known {
		changed = s.table.builder.TakeEndpoints(s.id, name, endpoints)
	} else {
		changed = s.table.builder.RemoveEndpoints(s.id, name)
	}
	if changed {
		s.version++
	}
	count := 0
	for i := range endpoints.Groups {
		count += len(endpoints.Groups[i].Endpoints)
	}
	s.total += count - s.shown[name]
	s.shown[name] = count
	clusterEndpoints.WithLabelValues(s.member.Name).Set(float64(s.total))
}

// showMoved brings the builder up to date with the services whose slices changed.
func (s *site) showMoved() {
	for name := range s.moved {
		s.showEndpoints(name)
	}
	clear(s.moved)
}

// showImport brings the builder up to date with the derived Service of one global service.
func (s *site) showImport(global key) {
	if s.id == "" {
		return
	}
	i, is := s.imported(global)
	_, was := s.reached[global]
	changed := false
	switch {
	case is:
		s.reached[global] = struct{}{}
		changed = s.table.builder.SetImport(s.id, global, i)
	case was:
		delete(s.reached, global)
		changed = s.table.builder.RemoveImport(s.id, global)
	}
	if changed {
		s.version++
	}
}

// showAll brings the builder up to date with everything: something has become complete, was restored, or has a new id.
func (s *site) showAll() {
	if s.id == "" {
		return
	}
	exports, imports := map[key]struct{}{}, map[key]struct{}{}
	add(exports, s.exports)
	add(exports, s.shown)
	add(imports, s.derived.byGlobal)
	add(imports, s.reached)
	if s.record != nil {
		add(exports, s.record.Known.Exports)
		add(imports, s.record.Known.Imports)
	}
	for name := range exports {
		s.show(name)
		s.showEndpoints(name)
	}
	for global := range imports {
		s.showImport(global)
	}
}

func add[V any](to map[key]struct{}, from map[key]V) {
	for name := range from {
		to[name] = struct{}{}
	}
}

// rezone shows endpoints anew that have their zone from their node.
func (s *site) rezone() {
	for name := range s.shown {
		if s.slices.zoneless(name) {
			s.showEndpoints(name)
		}
	}
}
