package collector

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/inventory"
)

// names is a set of metric names. Immutable.
type names map[string]struct{}

func newNames(lists ...[]string) names {
	set := names{}
	for _, list := range lists {
		for _, name := range list {
			set[name] = struct{}{}
		}
	}
	return set
}

func (n names) has(name string) bool {
	_, ok := n[name]
	return ok || strings.HasPrefix(name, exporterPrefix)
}

// relabeller applies the user's rules. Not safe for concurrent use.
type relabeller struct {
	rules   []*relabel.Config
	builder *labels.Builder
}

// apply returns what the rules make of a series' labels, the name among them, once
// those labels are added that the series does not have.
func (r *relabeller) apply(lset labels.Labels, added ...labels.Label) (labels.Labels, exposition.Verdict) {
	if len(r.rules) == 0 && len(added) == 0 {
		return lset, exposition.Keep
	}
	r.builder.Reset(lset)
	for _, l := range added {
		if lset.Get(l.Name) == "" {
			r.builder.Set(l.Name, l.Value)
		}
	}
	if len(r.rules) == 0 {
		return r.builder.Labels(), exposition.Keep
	}
	if !relabel.ProcessBuilder(r.builder, r.rules...) {
		return labels.EmptyLabels(), exposition.DropRule
	}
	// Labels that begin with two underscores are the rules' scratch paper, and
	// reserved in an exposition.
	lset = r.builder.Labels()
	scratch := false
	lset.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, "__") && l.Name != model.MetricNameLabel {
			r.builder.Del(l.Name)
			scratch = true
		}
	})
	if scratch {
		lset = r.builder.Labels()
	}
	if !model.UTF8Validation.IsValidMetricName(lset.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), exposition.DropInvalid
	}
	return lset, exposition.Keep
}

// rewriter joins upstream's series with the inventory and applies the rules: the
// inventory labels first, so that rules can use them. It lives for one page.
type rewriter struct {
	relabeller
	scope     exposition.RuleScope
	enriched  []inventory.EnrichLabel
	inventory map[string]*record
	rulesAge  uint32
	own       names
	// only is the service whose own page this is: whatever its series say, they
	// belong to that service. "" on an organization's page.
	only string
	// unknownNames collects what upstream calls services that the inventory does
	// not know.
	unknownNames map[string]string
}

// Group implements [exposition.Rewriter]: series belong together by service id.
func (r *rewriter) Group(lset labels.Labels) string {
	if r.only != "" {
		return r.only
	}
	return lset.Get(inventory.ServiceLabel)
}

// Epoch implements [exposition.Rewriter]. It changes when the rules change and when
// a label that the service's series get from the inventory does, so that series of
// unchanged services cost nothing.
func (r *rewriter) Epoch(group string) uint64 {
	epoch := uint64(r.rulesAge) << 32
	if rec := r.inventory[group]; rec != nil {
		epoch |= uint64(rec.epoch)
	}
	return epoch
}

// Class implements [exposition.Rewriter].
func (r *rewriter) Class(name string) string {
	if r.own.has(name) {
		return name
	}
	return r.scope.Class(name)
}

// Passes implements [exposition.Rewriter]: all but the labels that say which service
// it is, those of the inventory, and those that the rules have to do with.
func (r *rewriter) Passes(label string) bool {
	if label == inventory.ServiceLabel || label == inventory.NameLabel || strings.HasPrefix(label, "__") {
		return false
	}
	for _, l := range r.enriched {
		if l.LabelName() == label {
			return false
		}
	}
	return r.scope.Passes(label)
}

// Rewrite implements [exposition.Rewriter].
func (r *rewriter) Rewrite(group string, lset labels.Labels) (labels.Labels, exposition.Verdict) {
	if r.own.has(lset.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), exposition.DropReserved
	}
	rec := r.inventory[group]
	if rec == nil && group != "" {
		r.unknownNames[group] = lset.Get(inventory.NameLabel)
	}
	var inline []labels.Label // never overwrites upstream's own labels
	if rec != nil {
		inline = rec.inline
	}
	lset, verdict := r.apply(lset, inline...)
	if verdict == exposition.Keep && len(r.rules) > 0 && r.own.has(lset.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), exposition.DropReserved
	}
	return lset, verdict
}
