{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Leaves room for the suffix of the shards' Service. */}}
{{- define "exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "exporter.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "exporter.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "exporter.shardsName" -}}
{{- include "exporter.fullname" . }}-shards
{{- end }}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* The labels of the values and of the chart as one map, since a key that is
there twice is no YAML. Takes a list of maps, of which the first wins and the
last is the chart's. */}}
{{- define "exporter.mergeLabels" -}}
{{- $merged := dict }}
{{- range initial . }}
{{- $merged = merge $merged (default dict .) }}
{{- end }}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" }}
{{- if hasKey $merged . }}
{{- fail (printf "label %s cannot be changed, since the chart finds its pods by it: set nameOverride instead" .) }}
{{- end }}
{{- end }}
{{- toYaml (merge $merged (last . | fromYaml)) }}
{{- end }}

{{/* What an object has as metadata. Takes a dict of root and of what is the
object's own: name, namespace, labels, annotations. */}}
{{- define "exporter.metadata" -}}
name: {{ default (include "exporter.fullname" .root) .name }}
namespace: {{ default (include "exporter.namespace" .root) .namespace }}
labels:
  {{- include "exporter.mergeLabels" (list .labels .root.Values.commonLabels (include "exporter.labels" .root)) | nindent 2 }}
{{- with merge dict (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Values under their own names, without those that are empty. Takes a list of
the map that has them and of their names. */}}
{{- define "exporter.fields" -}}
{{- $from := first . }}
{{- $fields := dict }}
{{- range $name := rest . }}
{{- with get $from $name }}
{{- $_ := set $fields $name . }}
{{- end }}
{{- end }}
{{- with $fields }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* A number as it was written: Helm reads 1000000 in a file as 1e+06, and --set
as an integer. */}}
{{- define "exporter.string" -}}
{{- if kindIs "float64" . }}
{{- ternary (. | int64 | toString) (. | toString) (eq (floor .) .) }}
{{- else }}
{{- . | toString }}
{{- end }}
{{- end }}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "exporter.image" -}}
{{- $name := printf "%s/%s" .Values.image.registry .Values.image.repository | trimPrefix "/" }}
{{- if .Values.image.digest }}
{{- printf "%s@%s" $name .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "exporter.scheme" -}}
{{- ternary "https" "http" .Values.web.tls }}
{{- end }}

{{/* What all paths begin with, as the exporter finds it out. */}}
{{- define "exporter.prefix" -}}
{{- $url := get .Values.flags "web.external-url" | default "" | urlParse }}
{{- with get .Values.flags "web.route-prefix" | default $url.path | trimAll "/" }}/{{ . }}{{ end }}
{{- end }}

{{- define "exporter.path" -}}
{{- include "exporter.prefix" . }}{{ get .Values.flags "web.telemetry-path" | default "/metrics" }}
{{- end }}

{{- define "exporter.pods" -}}
{{- max (int .Values.replicaCount) (int .Values.shardCount) }}
{{- end }}

{{- define "exporter.configMapName" -}}
{{- if .Values.existingConfigMap }}
{{- .Values.existingConfigMap }}
{{- else if .Values.config }}
{{- include "exporter.fullname" . }}
{{- end }}
{{- end }}

{{/* Nine tenths of the memory limit. */}}
{{- define "exporter.goMemLimit" -}}
{{- $limit := dig "limits" "memory" "" (.Values.resources | default dict) | toString }}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $unit := regexFind "[a-zA-Z]*$" $limit }}
{{- if .Values.goMemLimit }}
{{- .Values.goMemLimit }}
{{- else if and $limit (hasKey $units $unit) }}
{{- printf "%dMiB" (divf (mulf (trimSuffix $unit $limit) (get $units $unit) 0.9) 1048576 | floor | int) }}
{{- end }}
{{- end }}

{{/* How the program listens. Its own check has to know that, too. */}}
{{- define "exporter.webArgs" -}}
- --web.listen-address=:{{ .Values.web.port }}
{{- if .Values.web.existingSecret }}
- --web.config.file=/etc/exporter/web/{{ .Values.web.key }}
{{- end }}
{{- include "exporter.flags" (list . true) }}
{{- end }}

{{/* The flags among the values. Takes a list of the root and of whether those
of the web server are asked for, or the others. */}}
{{- define "exporter.flags" -}}
{{- $web := last . }}
{{- with first . }}
{{- $known := .Files.Lines "files/flags.txt" }}
{{- $own := list "api.key-id-file" "api.key-secret-file" "api.organization-id" "api.replicas" "config.check" "config.file" "demo" "demo.services" "shard.count" "shard.index" "web.config.file" "web.listen-address" "web.systemd-socket" }}
{{- range $flag, $value := .Values.flags }}
{{- if not (has $flag $known) }}
{{- fail (printf "flags: the exporter has no flag --%s" $flag) }}
{{- else if has $flag $own }}
{{- fail (printf "flags: --%s is for the chart to set, from other values" $flag) }}
{{- end }}
{{- if eq $web (hasPrefix "web." $flag) }}
{{- range ternary $value (list $value) (kindIs "slice" $value) }}
{{- if eq (toString .) "true" }}
- --{{ $flag }}
{{- else if eq (toString .) "false" }}
- --no-{{ $flag }}
{{- else }}
- {{ printf "--%s=%s" $flag (include "exporter.string" .) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* A probe. Without a handler of its own it is the program's check of itself.
Takes a dict of root, probe and the arguments of that check. */}}
{{- define "exporter.probe" -}}
{{- if not (or .probe.exec .probe.grpc .probe.httpGet .probe.tcpSocket) }}
exec:
  command:
    - /bin/clickhouse_postgres_exporter
    - healthcheck
    {{- with .args }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- include "exporter.webArgs" .root | nindent 4 }}
    {{- with .root.Values.web }}
    {{- if and .existingSecret .probeCert .probeKey }}
    - --client-cert-file=/etc/exporter/web/{{ .probeCert }}
    - --client-key-file=/etc/exporter/web/{{ .probeKey }}
    {{- end }}
    {{- end }}
{{ end }}
{{- toYaml .probe }}
{{- end }}

{{/* A ServiceMonitor's or PodMonitor's endpoint. Takes a dict of root and monitor. */}}
{{- define "exporter.endpoint" -}}
port: metrics
path: {{ include "exporter.path" .root }}
scheme: {{ include "exporter.scheme" .root }}
{{- with include "exporter.fields" (list .monitor "interval" "scrapeTimeout" "honorLabels" "trackTimestampsStaleness" "tlsConfig" "basicAuth" "relabelings" "metricRelabelings") }}
{{ . }}
{{- end }}
{{- end }}

{{/* What the operator has the same names for in all kinds of scrape. */}}
{{- define "exporter.limits" -}}
{{- include "exporter.fields" (list . "jobLabel" "targetLabels" "podTargetLabels" "attachMetadata" "sampleLimit" "targetLimit" "labelLimit" "labelNameLengthLimit" "labelValueLengthLimit") }}
{{- end }}
