package simulator

import (
	"maps"
	"net/http"
	"sync"
	"time"
)

// Simulator is one organization and its API. It is an http.Handler, safe for concurrent use,
// and starts no goroutines: whatever happens by itself is a function of the time.
type Simulator struct {
	config Config // all but Phase, which mu guards, is constant
	routes []route

	mu           sync.Mutex
	keys         map[string]Key
	fleet        fleet
	limiter      limiter
	views        []*view // captured, oldest first
	noTickBefore time.Time
	requestIDs   uint64
	faults       []*fault
	faultDraws   uint64
	log          requestLog

	// latestPage is the organization-wide page of the latest view, rendered when it is first
	// asked for. Older views have none: it is large.
	latestPage struct{ text, gzip func() []byte }

	authority func() ([]byte, error) // the certificate in PEM, made once
}

// New returns a simulator of the organization that config describes.
func New(config Config) *Simulator {
	config = config.withDefaults()
	s := &Simulator{
		config:  config,
		routes:  newRoutes(),
		keys:    map[string]Key{config.KeyID: {ID: config.KeyID, Secret: config.KeySecret}},
		limiter: limiter{limit: config.RateLimit, window: config.RateWindow},
		log:     requestLog{size: config.LogSize},
	}
	s.authority = sync.OnceValues(func() ([]byte, error) { return certificate(config.Seed, config.Epoch) })
	s.fleet.resize(config.Services, config.member)
	return s
}

// Config returns the configuration in force, with all defaults filled in.
func (s *Simulator) Config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.config
	c.States = maps.Clone(c.States)
	c.RateLimit, c.RateWindow = s.limiter.limit, s.limiter.window
	return c
}

// ServeHTTP answers a request as the API would.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := s.receive(w, r)
	answer, fault := s.answer(c)
	s.send(w, c, answer, fault)
}
