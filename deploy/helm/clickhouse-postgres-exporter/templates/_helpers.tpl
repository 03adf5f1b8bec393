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

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
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

{{/* Nine tenths of the memory limit, where it is written in Mi or Gi. */}}
{{- define "exporter.goMemLimit" -}}
{{- $limit := dig "limits" "memory" "" .Values.resources | toString }}
{{- if .Values.goMemLimit }}
{{- .Values.goMemLimit }}
{{- else if regexMatch "^[0-9]+Mi$" $limit }}
{{- printf "%dMiB" (div (mul (trimSuffix "Mi" $limit | int) 9) 10) }}
{{- else if regexMatch "^[0-9]+Gi$" $limit }}
{{- printf "%dMiB" (div (mul (trimSuffix "Gi" $limit | int) 9216) 10) }}
{{- end }}
{{- end }}

{{/* How the program asks itself: it has to know where it listens and how. */}}
{{- define "exporter.healthcheck" -}}
- /bin/clickhouse_postgres_exporter
- healthcheck
{{- if ne (int .Values.web.port) 9924 }}
- --web.listen-address=:{{ .Values.web.port }}
{{- end }}
{{- if .Values.web.existingSecret }}
- --web.config.file=/etc/exporter/web/{{ .Values.web.key }}
{{- if and .Values.web.probeCert .Values.web.probeKey }}
- --client-cert-file=/etc/exporter/web/{{ .Values.web.probeCert }}
- --client-key-file=/etc/exporter/web/{{ .Values.web.probeKey }}
{{- end }}
{{- end }}
{{- end }}

{{/* What every kind of scrape has in common. Takes a dict of root and monitor. */}}
{{- define "exporter.endpoint" -}}
scheme: {{ include "exporter.scheme" .root }}
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
honorLabels: {{ .monitor.honorLabels }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same for a ScrapeConfig, which has other names for it. */}}
{{- define "exporter.scrape" -}}
scheme: {{ include "exporter.scheme" .root | upper }}
scrapeInterval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
honorLabels: {{ .monitor.honorLabels }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
