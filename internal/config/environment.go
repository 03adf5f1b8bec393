package config

import (
	"fmt"
	"strings"
)

// Flag notes that a flag set the setting.
func (c *Config) Flag(s Setting) {
	c.Organization.sources[s.ID()] = source{name: "--" + s.Flag}
}

// Environment sets what no flag set from the environment, where lookup finds it. The
// demo brings its own organization and leaves that of the environment alone.
func (c *Config) Environment(command string, lookup func(string) (string, bool)) error {
	settings := append(c.Settings(), c.CommandSettings(command)...)
	for _, demo := range []bool{false, true} { // whether it is one is a setting as well
		for _, s := range settings {
			if s.demo != demo || demo && c.Demo.Enabled || c.Organization.given(s.ID()) {
				continue
			}
			if err := c.variable(s, lookup); err != nil {
				return err
			}
		}
	}
	if c.Demo.Enabled {
		for _, s := range settings {
			if s.demo && c.Organization.given(s.ID()) {
				return fmt.Errorf("--demo simulates the API and brings its own key: leave out --%s, or leave out --demo", s.Flag)
			}
		}
	}
	return nil
}

// variable sets a setting from the first of its variables that is set.
func (c *Config) variable(s Setting, lookup func(string) (string, bool)) error {
	for _, name := range s.Variables() {
		text, _ := lookup(name)
		// Files of variables end in line feeds, and docker run --env-file keeps quotes.
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if quoted(text) {
			return fmt.Errorf("%s is in quotes, which become part of the value: leave them out, since not everything that sets variables removes them (docker run --env-file does not)", name)
		}
		texts := []string{text}
		if r, ok := s.Value.(repeated); ok {
			*r.to, texts = nil, strings.Fields(text)
		}
		for _, text := range texts {
			if err := s.Value.Set(text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		c.Organization.sources[s.ID()] = source{name: name}
		return nil
	}
	return nil
}

func quoted(text string) bool {
	return strings.ContainsRune(`"'`, rune(text[0])) || strings.ContainsRune(`"'`, rune(text[len(text)-1]))
}
