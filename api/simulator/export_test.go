package simulator

// IsSetting reports whether the API lets a parameter of Postgres be set.
func IsSetting(name string) bool {
	_, ok := settingOf(name)
	return ok
}

// Routes returns the methods and paths that are served.
func Routes() []string {
	var all []string
	for _, r := range newRoutes() {
		for method := range r.methods {
			path := method + " "
			for _, segment := range r.pattern {
				path += "/" + segment
			}
			all = append(all, path)
		}
	}
	return all
}

// PageSize renders the organization's page and returns its size in bytes.
func PageSize(s *Simulator) int64 {
	s.mu.Lock()
	s.capture(s.config.Now())
	p := s.latestPage
	s.mu.Unlock()
	return int64(len(p.text()))
}
