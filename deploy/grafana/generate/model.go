package main

import "fmt"

// object is JSON whose shape Grafana or one of its panels defines.
type object map[string]any

// dashboard is Grafana's dashboard model (the classic one, which every Grafana
// since 8 reads and Grafana 12 migrates forward from schema 41 by itself).
type dashboard struct {
	UID                  string   `json:"uid"`
	Title                string   `json:"title"`
	Description          string   `json:"description"`
	Tags                 []string `json:"tags"`
	SchemaVersion        int      `json:"schemaVersion"`
	Version              int      `json:"version"`
	Editable             bool     `json:"editable"`
	GraphTooltip         int      `json:"graphTooltip"`
	FiscalYearStartMonth int      `json:"fiscalYearStartMonth"`
	Timezone             string   `json:"timezone"`
	Refresh              string   `json:"refresh"`
	Time                 object   `json:"time"`
	Timepicker           object   `json:"timepicker"`
	Annotations          object   `json:"annotations"`
	Links                []object `json:"links"`
	Templating           object   `json:"templating"`
	Panels               []panel  `json:"panels"`
}

// panel is one panel, or a row that heads those below it.
type panel struct {
	ID              int      `json:"id"`
	Type            string   `json:"type"`
	Title           string   `json:"title"`
	Description     string   `json:"description,omitempty"`
	GridPos         gridPos  `json:"gridPos"`
	Datasource      object   `json:"datasource,omitempty"`
	Targets         []target `json:"targets,omitempty"`
	FieldConfig     object   `json:"fieldConfig,omitempty"`
	Options         object   `json:"options,omitempty"`
	Transformations []object `json:"transformations,omitempty"`
	Collapsed       *bool    `json:"collapsed,omitempty"` // rows only
	Panels          []panel  `json:"panels,omitempty"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

// target is one query of a panel.
type target struct {
	RefID        string `json:"refId"`
	Datasource   object `json:"datasource"`
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat,omitempty"`
	EditorMode   string `json:"editorMode"`
	Format       string `json:"format"`
	Instant      bool   `json:"instant"`
	Range        bool   `json:"range"`
	Interval     string `json:"interval,omitempty"`
}

// The dashboards' UIDs are part of their addresses: they never change.
const (
	fleetUID    = "clickhouse-postgres-fleet"
	serviceUID  = "clickhouse-postgres-service"
	exporterUID = "clickhouse-postgres-exporter"
)

// source is the data source that the user chose at the top.
func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

// newDashboard returns a dashboard without panels.
func newDashboard(uid, title, description string, variables ...object) dashboard {
	return dashboard{
		UID:           uid,
		Title:         title,
		Description:   description,
		Tags:          []string{"clickhouse-postgres"},
		SchemaVersion: 41,
		Version:       1,
		Editable:      true,
		GraphTooltip:  1, // one crosshair for all panels
		Timezone:      "browser",
		Refresh:       "1m",
		Time:          object{"from": "now-6h", "to": "now"},
		Timepicker:    object{},
		Annotations: object{"list": []object{{
			"builtIn":    1,
			"datasource": object{"type": "grafana", "uid": "-- Grafana --"},
			"enable":     true,
			"hide":       true,
			"iconColor":  "rgba(0, 211, 255, 1)",
			"name":       "Annotations & Alerts",
			"type":       "dashboard",
		}}},
		Links: []object{{
			"title":       "ClickHouse Postgres",
			"type":        "dashboards",
			"tags":        []string{"clickhouse-postgres"},
			"asDropdown":  false,
			"icon":        "external link",
			"includeVars": false,
			"keepTime":    true,
			"targetBlank": false,
			"tooltip":     "",
			"url":         "",
		}},
		Templating: object{"list": variables},
	}
}

// row appends a row with its panels, from left to right, wrapping at the right
// edge.
func (d *dashboard) row(title string, panels ...panel) {
	open := false
	d.Panels = append(d.Panels, panel{
		Type: "row", Title: title, Collapsed: &open,
		GridPos: gridPos{H: 1, W: 24, Y: d.bottom()}, Panels: nil,
	})
	x, y := 0, d.bottom()
	for _, p := range panels {
		if x+p.GridPos.W > 24 {
			x, y = 0, d.bottom()
		}
		p.GridPos.X, p.GridPos.Y = x, y
		x += p.GridPos.W
		d.Panels = append(d.Panels, p)
	}
	for i := range d.Panels {
		d.Panels[i].ID = i + 1
	}
}

// bottom is the first free line of the grid.
func (d *dashboard) bottom() int {
	y := 0
	for _, p := range d.Panels {
		y = max(y, p.GridPos.Y+p.GridPos.H)
	}
	return y
}

// size sets a panel's width (of 24) and height.
func (p panel) size(w, h int) panel {
	p.GridPos.W, p.GridPos.H = w, h
	return p
}

// query is a PromQL expression with the legend of its series.
type query struct {
	expr, legend string
}

// targets makes queries over the dashboard's time range.
func targets(queries []query) []target {
	ts := make([]target, len(queries))
	for i, q := range queries {
		ts[i] = target{
			RefID: refID(i), Datasource: source(), Expr: q.expr, LegendFormat: q.legend,
			EditorMode: "code", Format: "time_series", Range: true,
			// Upstream's values change once a minute. This is also what makes
			// $__rate_interval at least four minutes.
			Interval: "1m",
		}
	}
	return ts
}

// instants makes queries of the present moment, as tables or numbers.
func instants(format string, queries []query) []target {
	ts := targets(queries)
	for i := range ts {
		ts[i].Format, ts[i].Instant, ts[i].Range = format, true, false
	}
	return ts
}

func refID(i int) string { return string(rune('A' + i)) }

// thresholds colours by value: from each bound on, ascending, the next colour.
func thresholds(steps ...any) object {
	list := []object{{"color": "green", "value": nil}}
	for i := 0; i+1 < len(steps); i += 2 {
		list = append(list, object{"value": steps[i], "color": steps[i+1]})
	}
	return object{"mode": "absolute", "steps": list}
}

// floor colours what should not fall below a bound: the first colour is for
// the worst values.
func floor(worst string, steps ...any) object {
	t := thresholds(steps...)
	t["steps"].([]object)[0]["color"] = worst
	return t
}

// timeseries is a chart of series over time.
func timeseries(title, unit, description string, queries ...query) panel {
	return panel{
		Type: "timeseries", Title: title, Description: description, Datasource: source(),
		GridPos: gridPos{W: 12, H: 8},
		Targets: targets(queries),
		FieldConfig: object{
			"defaults": object{
				"unit":       unit,
				"color":      object{"mode": "palette-classic"},
				"thresholds": thresholds(),
				"custom": object{
					"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 10,
					"gradientMode": "none", "showPoints": "never", "spanNulls": false, "axisPlacement": "auto",
					"stacking":        object{"mode": "none", "group": "A"},
					"thresholdsStyle": object{"mode": "off"},
				},
			},
			"overrides": []object{},
		},
		Options: object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}

func (p panel) defaults() object { return p.FieldConfig["defaults"].(object) }
func (p panel) custom() object   { return p.defaults()["custom"].(object) }

// stacked draws the series of a chart on top of each other.
func (p panel) stacked() panel {
	p.custom()["stacking"] = object{"mode": "normal", "group": "A"}
	p.custom()["fillOpacity"] = 40
	return p
}

// bars draws a chart's series as bars, for events that are counted.
func (p panel) bars() panel {
	p.custom()["drawStyle"] = "bars"
	p.custom()["fillOpacity"] = 60
	return p
}

// upTo fixes the axis from 0 to a greatest value.
func (p panel) upTo(high float64) panel {
	p.defaults()["min"], p.defaults()["max"] = 0, high
	return p
}

// fromZero makes the axis begin at zero, so that sizes can be compared.
func (p panel) fromZero() panel {
	p.defaults()["min"] = 0
	return p
}

// lined draws thresholds as lines.
func (p panel) lined(steps object) panel {
	p.defaults()["thresholds"] = steps
	p.custom()["thresholdsStyle"] = object{"mode": "dashed"}
	return p
}

// linked makes each series lead to the service that it is about. There are many
// of these: lines are not filled, or nothing could be told apart.
func (p panel) linked() panel {
	if p.custom()["drawStyle"] == "line" {
		p.custom()["fillOpacity"] = 0
	}
	p.defaults()["links"] = []object{serviceLink("${__field.labels.clickhouse_org}", "${__field.labels.postgres_service}")}
	return p
}

// override changes how one field is shown.
func (p panel) override(field string, properties ...object) panel {
	p.FieldConfig["overrides"] = append(p.FieldConfig["overrides"].([]object), object{
		"matcher":    object{"id": "byName", "options": field},
		"properties": properties,
	})
	return p
}

func property(id string, value any) object { return object{"id": id, "value": value} }

// serviceLink leads to the service dashboard, for the same data source and
// time.
func serviceLink(organization, id string) object {
	return object{
		"title": "Service details",
		"url": fmt.Sprintf("/d/%s?${datasource:queryparam}&var-organization=%s&var-service=%s&${__url_time_range}",
			serviceUID, organization, id),
		"targetBlank": false,
	}
}

// stat is one number, coloured.
func stat(title, unit, description string, steps object, q query) panel {
	return panel{
		Type: "stat", Title: title, Description: description, Datasource: source(),
		GridPos: gridPos{W: 3, H: 4},
		Targets: instants("time_series", []query{q}),
		FieldConfig: object{
			"defaults": object{
				"unit": unit, "decimals": 0, "color": object{"mode": "thresholds"}, "thresholds": steps, "noValue": "–",
			},
			"overrides": []object{},
		},
		Options: object{
			"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "auto", "orientation": "auto",
			"wideLayout":    true,
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	}
}

// text shows a label instead of the value.
func (p panel) text() panel {
	p.Options["textMode"] = "name"
	return p
}

// bargauge compares a few things at the present moment.
func bargauge(title, unit, description string, q query) panel {
	return panel{
		Type: "bargauge", Title: title, Description: description, Datasource: source(),
		GridPos: gridPos{W: 8, H: 8},
		Targets: instants("time_series", []query{q}),
		FieldConfig: object{
			"defaults": object{
				"unit": unit, "min": 0, "color": object{"mode": "continuous-BlPu"}, "thresholds": thresholds(),
			},
			"overrides": []object{},
		},
		Options: object{
			"displayMode": "gradient", "orientation": "horizontal", "showUnfilled": true, "valueMode": "color",
			"namePlacement": "auto", "sizing": "auto", "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 300,
			"legend":        object{"showLegend": false, "displayMode": "list", "placement": "bottom", "calcs": []string{}},
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	}
}

// timeline shows which states there were, and for how long.
func timeline(title, description string, queries ...query) panel {
	return panel{
		Type: "state-timeline", Title: title, Description: description, Datasource: source(),
		GridPos: gridPos{W: 24, H: 5},
		Targets: targets(queries),
		FieldConfig: object{
			"defaults": object{
				"unit": "none", "color": object{"mode": "thresholds"}, "thresholds": thresholds(),
				"custom": object{"lineWidth": 0, "fillOpacity": 70, "spanNulls": false},
				"mappings": []object{{
					"type":    "value",
					"options": object{"1": object{"text": "yes", "color": "blue", "index": 0}},
				}},
			},
			"overrides": []object{},
		},
		Options: object{
			"mergeValues": true, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
			"legend":  object{"showLegend": false, "displayMode": "list", "placement": "bottom"},
			"tooltip": object{"mode": "single", "sort": "none"},
		},
	}
}

// column is one column of a table: the field that it shows, under which title.
type column struct {
	field, title string
	properties   []object
}

// table shows one line per service or other thing, with the labels and the
// values of its queries, which are joined by the labels that all have.
func table(title, description string, queries []query, columns ...column) panel {
	p := panel{
		Type: "table", Title: title, Description: description, Datasource: source(),
		GridPos: gridPos{W: 24, H: 12},
		Targets: instants("table", queries),
		FieldConfig: object{
			"defaults": object{
				"unit": "none", "color": object{"mode": "thresholds"}, "thresholds": thresholds(),
				"custom": object{"align": "auto", "cellOptions": object{"type": "auto"}, "filterable": true, "inspect": false},
			},
			"overrides": []object{},
		},
		Options: object{"cellHeight": "sm", "showHeader": true, "footer": object{"show": false, "reducer": []string{"sum"}, "fields": ""}},
	}
	order, hidden := object{}, object{"Time": true}
	for i, c := range columns {
		order[c.field] = i
		p = p.override(c.field, append([]object{property("displayName", c.title)}, c.properties...)...)
	}
	for i := range queries {
		// A query whose value says nothing, such as that of an info metric,
		// has no column.
		value := "Value #" + refID(i)
		if len(queries) == 1 {
			value = "Value"
		}
		if _, ok := order[value]; !ok {
			hidden[value] = true
		}
	}
	p.Transformations = []object{
		{"id": "merge", "options": object{}},
		{"id": "organize", "options": object{"excludeByName": hidden, "indexByName": order, "renameByName": object{}}},
	}
	return p
}

// sorted orders a table by one of its columns' titles.
func (p panel) sorted(title string, descending bool) panel {
	p.Options["sortBy"] = []object{{"displayName": title, "desc": descending}}
	return p
}

// Properties of table columns.

func unitOf(unit string) object  { return property("unit", unit) }
func decimals(n int) object      { return property("decimals", n) }
func width(n int) object         { return property("custom.width", n) }
func shaded(steps object) object { return property("thresholds", steps) }
func coloured() object {
	return property("custom.cellOptions", object{"type": "color-background", "mode": "basic"})
}

// percentage is a column with a coloured bar from 0 to 100.
func percentage(field, title string, steps object) column {
	return column{field, title, []object{
		unitOf("percent"), decimals(0), property("min", 0), property("max", 100), shaded(steps),
		property("custom.cellOptions", object{"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}),
	}}
}
