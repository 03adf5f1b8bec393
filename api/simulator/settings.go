package simulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

func (s *Simulator) getConfig(c *call) (any, error) {
	v, err := s.service(c)
	if err != nil {
		return nil, err
	}
	return configAnswer(v, ""), nil
}

func configAnswer(v *service, message string) any {
	return struct {
		PgConfig        map[string]any `json:"pgConfig"`
		PgBouncerConfig map[string]any `json:"pgBouncerConfig"`
		Message         string         `json:"message,omitempty"`
	}{v.pgConfig, v.bouncerConfig, message}
}

// replaceConfig sets exactly the given settings; all others get their defaults back.
func (s *Simulator) replaceConfig(c *call) (any, error) {
	return s.setConfig(c, false)
}

// patchConfig changes the given settings and keeps all others; null removes a setting.
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
	var message string
	if len(restart) > 0 {
		slices.Sort(restart)
		message = "The changes in the following parameters require a database restart to take effect: " +
			strings.Join(restart, ", ") + ". You can restart the database by using the restart endpoint."
	}
	return configAnswer(&v, message), nil
}

// text is a setting as Postgres sees it, whether it was sent as a string or as a number.
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

// A setting describes a parameter of Postgres that can be set.
type setting struct {
	values  string // that are allowed, separated as for document.choice; "" for a number, with or without a unit
	minimum float64
	whole   bool // a number without a fraction
	restart bool // takes effect after a restart
}

// settingOf returns the description of a parameter, false for one that the API does not allow.
func settingOf(name string) (setting, bool) {
	switch name {
	case "max_connections", "autovacuum_max_workers":
		return setting{minimum: 1, whole: true, restart: true}, true
	case "max_worker_processes":
		return setting{whole: true, restart: true}, true
	case "default_transaction_isolation":
		return setting{values: "read committed, repeatable read, serializable"}, true
	case "ssl_min_protocol_version":
		return setting{values: "TLSv1, TLSv1.1, TLSv1.2, TLSv1.3"}, true
	case "wal_compression":
		return setting{values: "off, on, lz4, zstd"}, true
	case "random_page_cost", "autovacuum_vacuum_scale_factor", "autovacuum_analyze_scale_factor",
		"autovacuum_vacuum_insert_scale_factor", "autovacuum_vacuum_cost_delay":
		return setting{}, true
	case "autovacuum_naptime", "autovacuum_vacuum_cost_limit":
		return setting{minimum: 1, whole: true}, true
	case "effective_cache_size":
		return setting{minimum: 8, whole: true}, true
	case "maintenance_work_mem", "work_mem":
		return setting{minimum: 64, whole: true}, true
	case "autovacuum_work_mem":
		return setting{minimum: 1024, whole: true}, true
	case "min_wal_size", "max_wal_size":
		return setting{minimum: 32768, whole: true}, true
	case "effective_io_concurrency", "max_parallel_workers", "max_parallel_workers_per_gather",
		"max_parallel_maintenance_workers", "statement_timeout", "lock_timeout", "idle_session_timeout",
		"idle_in_transaction_session_timeout", "transaction_timeout", "wal_sender_timeout", "wal_keep_size",
		"max_slot_wal_keep_size":
		return setting{whole: true}, true
	default:
		return setting{}, false
	}
}

func (s setting) check(value any) error {
	if s.values != "" {
		if v, ok := value.(string); !ok || !slices.Contains(strings.Split(s.values, ", "), v) {
			return fmt.Errorf("must be one of %s", s.values)
		}
		return nil
	}
	switch v := value.(type) {
	case string:
		m := quantityPattern.FindStringSubmatch(v)
		if m == nil {
			return fmt.Errorf("must be a number, with or without a unit, and is %.64q", v)
		}
		// A value with a unit is not compared, because the minimum is in the parameter's own unit.
		// -1 means no limit.
		if n, _ := strconv.ParseFloat(m[1], 64); m[2] == "" && n < s.minimum && v != "-1" {
			return fmt.Errorf("must be at least %v", s.minimum)
		}
	case json.Number:
		n, err := v.Float64()
		if err != nil || s.whole && n != math.Trunc(n) {
			return fmt.Errorf("must be a whole number, and is %.64s", v)
		}
		if n < s.minimum {
			return fmt.Errorf("must be at least %v", s.minimum)
		}
	default:
		return errors.New("must be a string or a number")
	}
	return nil
}
