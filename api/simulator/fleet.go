package simulator

import (
	"slices"
	"time"
)

// fleet holds the services of the organization, in order of creation. The caller locks.
type fleet struct {
	services []*service
	position map[string]int
	// grown is the next index in the seed's fleet; created counts services made through the API.
	grown, created int
}

// get returns a service as it is at t.
func (f *fleet) get(id string, t time.Time) (*service, bool) {
	i, ok := f.position[id]
	if !ok {
		return nil, false
	}
	return f.services[i].at(t), true
}

// put adds a service, or replaces the one with the same id.
func (f *fleet) put(v *service) {
	if i, ok := f.position[v.id]; ok {
		f.services[i] = v
		return
	}
	if f.position == nil {
		f.position = make(map[string]int)
	}
	f.position[v.id] = len(f.services)
	f.services = append(f.services, v)
}

// keep removes the services for which keep is false.
func (f *fleet) keep(keep func(*service) bool) {
	if !slices.ContainsFunc(f.services, func(v *service) bool { return !keep(v) }) {
		return
	}
	f.services = slices.DeleteFunc(f.services, func(v *service) bool { return !keep(v) })
	clear(f.position)
	for i, v := range f.services {
		f.position[v.id] = i
	}
}

// live returns the services that exist at t, as they are then, in order of creation.
func (f *fleet) live(t time.Time) []*service {
	live := make([]*service, 0, len(f.services))
	for _, v := range f.services {
		if v.stateAt(t) != stateGone {
			live = append(live, v.at(t))
		}
	}
	return live
}

// resize grows or shrinks the part of the fleet that the seed defines to n services. It removes
// the youngest and adds those that the seed has next, so that growing back brings services that
// were never there before.
func (f *fleet) resize(n int, member func(index int) *service) {
	var ours int
	for _, v := range f.services {
		if v.index >= 0 {
			ours++
		}
	}
	for ; ours < n; ours++ {
		f.put(member(f.grown))
		f.grown++
	}
	if ours == n {
		return
	}
	surplus, drop := ours-max(n, 0), map[string]bool{}
	for i := len(f.services) - 1; i >= 0 && len(drop) < surplus; i-- {
		if f.services[i].index >= 0 {
			drop[f.services[i].id] = true
		}
	}
	f.keep(func(v *service) bool { return !drop[v.id] })
}
