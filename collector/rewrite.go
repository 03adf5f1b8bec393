package collector

import (
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/ClickHouse/clickhouse_postgres_exporter/internal/exposition"
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

// apply returns what the rules make of a series' labels, the name among them.
func (r *relabeller) apply(lset labels.Labels) (labels.Labels, exposition.Verdict) {
	if len(r.rules) == 0 {
		return lset, exposition.Keep
	}
	r.builder.Reset(lset)
	if !relabel.ProcessBuilder(r.builder, r.rules...) {
		return labels.EmptyLabels(), exposition.DropRule
	}
	// Labels that begin with two underscores are the rules' scratch paper, and
	// reserved in an exposition.
	r.builder.Range(func(l labels.Label) {
		if strings.HasPrefix(l.Name, "__") && l.Name != model.MetricNameLabel {
			r.builder.Del(l.Name)
		}
	})
	lset = r.builder.Labels()
	if !model.UTF8Validation.IsValidMetricName(lset.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), exposition.DropInvalid
	}
	return lset, exposition.Keep
}

// rewriter joins upstream's series with the inventory and applies the rules: the
// inventory labels first, so that rules can use them. It lives for one page.
type rewriter struct {
	relabeller
	inventory map[string]*record
	rulesAge  uint32
	own       names
	// only is the service whose own page this is: whatever its series say, they
	// belong to that service. "" on an organization's page.
	only string
	// unknownNames collects what upstream calls services that the inventory does
	// not know.
	unknownNames map[string]string
	enriched     *labels.Builder
}

// Group implements [exposition.Rewriter]: series belong together by service id.
func (r *rewriter) Group(lset labels.Labels) string {
	if r.only != "" {
		return r.only
	}
	return lset.Get(serviceLabel)
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

// Rewrite implements [exposition.Rewriter].
func (r *rewriter) Rewrite(group string, lset labels.Labels) (labels.Labels, exposition.Verdict) {
	if r.own.has(lset.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), exposition.DropReserved
	}
	rec := r.inventory[group]
	if rec == nil && group != "" {
		r.unknownNames[group] = lset.Get(nameLabel)
	}
	if rec != nil && len(rec.inline) > 0 {
		r.enriched.Reset(lset)
		for _, l := range rec.inline {
			if lset.Get(l.Name) == "" { // upstream's own label is never overwritten
				r.enriched.Set(l.Name, l.Value)
			}
		}
		lset = r.enriched.Labels()
	}
	lset, verdict := r.apply(lset)
	if verdict == exposition.Keep && len(r.rules) > 0 && r.own.has(lset.Get(model.MetricNameLabel)) {
		return labels.EmptyLabels(), exposition.DropReserved
	}
	return lset, verdict
}
