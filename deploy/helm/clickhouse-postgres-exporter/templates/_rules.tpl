{{/* The groups of the rule files as prometheusRule wants them. Takes a dict of
root and values. */}}
{{- define "exporter.ruleGroups" -}}
{{- $values := .values }}
{{- $groups := list }}
{{- $names := list }}
{{- $alerts := list }}
{{- range $path, $_ := .root.Files.Glob "files/rules/*.yml" }}
{{- range $group := ($.root.Files.Get $path | fromYaml).groups }}
{{- $rules := list }}
{{- $names = append $names $group.name }}
{{- range $rule := $group.rules }}
{{- $name := or $rule.alert $rule.record }}
{{- $names = append $names $name }}
{{- with $rule.alert }}
{{- $alerts = append $alerts . }}
{{- $labels := merge dict $values.additionalRuleLabels (default dict $rule.labels) }}
{{- with get $values.severity . }}
{{- $_ := set $labels "severity" . }}
{{- end }}
{{- $_ := set $rule "labels" $labels }}
{{- if hasKey $values.thresholds . }}
{{- $_ := set $rule "expr" (include "exporter.threshold" (dict "alert" . "expr" $rule.expr "threshold" (get $values.thresholds .))) }}
{{- end }}
{{- end }}
{{- if not (or (has $name $values.disabled) (has $group.name $values.disabled)) }}
{{- $rules = append $rules $rule }}
{{- end }}
{{- end }}
{{- if $rules }}
{{- $groups = append $groups (set $group "rules" $rules) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $values.disabled }}
{{- if not (has . $names) }}
{{- fail (printf "prometheusRule.disabled: there is no rule or group %s" .) }}
{{- end }}
{{- end }}
{{- range concat (keys $values.severity) (keys $values.thresholds) }}
{{- if not (has . $alerts) }}
{{- fail (printf "prometheusRule: there is no alert %s" .) }}
{{- end }}
{{- end }}
{{- with $groups }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The expression with another number in its first comparison that ends a
line with one. */}}
{{- define "exporter.threshold" -}}
{{- $comparison := `(?m)(?:[<>]=?|[=!]=) *-?[0-9][0-9.e+]*$` }}
{{- $found := regexFind $comparison .expr }}
{{- if not $found }}
{{- fail (printf "prometheusRule.thresholds: alert %s has no threshold" .alert) }}
{{- end }}
{{- $parts := regexSplit $comparison .expr 2 }}
{{- printf "%s%s %s%s" (first $parts) (regexFind "^[<>=!]+" $found) (include "exporter.string" .threshold) (last $parts) }}
{{- end }}
