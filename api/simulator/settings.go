package simulator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

type configJSON struct {
	PgConfig        map[string]any `json:"pgConfig"`
	PgBouncerConfig map[string]any `json:"pgBouncerConfig"`
	Message         string         `json:"message,omitempty"`
}

func (s *Simulator) getConfig(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	return configJSON{PgConfig: v.pgConfig, PgBouncerConfig: v.bouncerConfig}, nil
}

// replaceConfig sets exactly what is given: what is not, has its default again.
func (s *Simulator) replaceConfig(c *call) (any, error) {
	return s.setConfig(c, false)
}

// patchConfig sets what is given besides what is set; null takes a setting away.
func (s *Simulator) patchConfig(c *call) (any, error) {
	return s.setConfig(c, true)
}

func (s *Simulator) setConfig(c *call, patch bool) (any, error) {
	v, err := s.changeable(c)
	if err != nil {
		return nil, err
	}
	d := parseDocument(c.body, "pgConfig", "pgBouncerConfig")
	d.require("pgConfig", "pgBouncerConfig")
	postgres, bouncer := d.pgConfig(patch), d.bouncerConfig(patch)
	if d.err != nil {
		return nil, badRequest("%v", d.err)
	}
	if patch {
		postgres, bouncer = merge(v.pgConfig, postgres), merge(v.bouncerConfig, bouncer)
	}
	var restart []string
	for name := range merge(v.pgConfig, postgres) {
		if s, _ := settingOf(name); s.restart && text(postgres[name]) != text(v.pgConfig[name]) {
			restart = append(restart, name)
		}
	}
	v.pgConfig, v.bouncerConfig = postgres, bouncer
	s.put(c, &v)
	result := configJSON{PgConfig: postgres, PgBouncerConfig: bouncer}
	if len(restart) > 0 {
		slices.Sort(restart)
		result.Message = "The changes in the following parameters require a database restart to take effect: " +
			strings.Join(restart, ", ") + ". You can restart the database by using the restart endpoint."
	}
	return result, nil
}

// text is a setting as Postgres sees it, whether it came as a string or as a number.
func text(value any) string {
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

func merge(config, patch map[string]any) map[string]any {
	merged := make(map[string]any, len(config)+len(patch))
	maps.Copy(merged, config)
	maps.Copy(merged, patch)
	maps.DeleteFunc(merged, func(_ string, v any) bool { return v == nil })
	return merged
}
