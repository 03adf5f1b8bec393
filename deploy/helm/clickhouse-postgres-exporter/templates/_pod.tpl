{{/* The pod, of a Deployment or of a StatefulSet. */}}
{{- define "exporter.podTemplate" -}}
metadata:
  labels:
    {{- /* Without the chart's version, which would restart pods for nothing. */}}
    {{- include "exporter.selectorLabels" . | nindent 4 }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    kubectl.kubernetes.io/default-container: exporter
    {{- if and .Values.config (not .Values.existingConfigMap) }}
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: exporter
      image: {{ include "exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - --web.listen-address=:{{ .Values.web.port }}
        {{- if .Values.demo.enabled }}
        - --demo
        - --demo.services={{ int .Values.demo.services }}
        {{- else }}
        - --api.replicas={{ include "exporter.pods" . }}
        {{- if and .Values.credentials.existingSecret (eq .Values.credentials.method "file") }}
        - --api.key-id-file=/etc/exporter/credentials/key-id
        - --api.key-secret-file=/etc/exporter/credentials/key-secret
        {{- end }}
        {{- end }}
        {{- if gt (int .Values.shardCount) 1 }}
        # The index is the ordinal that ends the pod's name.
        - --shard.count={{ int .Values.shardCount }}
        {{- end }}
        {{- if include "exporter.configMapName" . }}
        - --config.file=/etc/exporter/config/config.yml
        {{- end }}
        {{- if .Values.web.existingSecret }}
        - --web.config.file=/etc/exporter/web/{{ .Values.web.key }}
        {{- end }}
        {{- range $flag, $value := .Values.flags }}
        {{- if kindIs "bool" $value }}
        - --{{ ternary "" "no-" $value }}{{ $flag }}
        {{- else if kindIs "float64" $value }}
        {{- /* Helm reads every number as a float, and would write 1e+06. */}}
        - --{{ $flag }}={{ ternary ($value | int64 | toString) ($value | toString) (eq (floor $value) $value) }}
        {{- else }}
        - {{ printf "--%s=%s" $flag $value | quote }}
        {{- end }}
        {{- end }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      env:
        {{- with include "exporter.goMemLimit" . }}
        - name: GOMEMLIMIT
          value: {{ . }}
        {{- end }}
        {{- if not .Values.demo.enabled }}
        {{- with .Values.organizationId }}
        - name: CLICKHOUSE_ORG_ID
          value: {{ . | quote }}
        {{- end }}
        {{- with .Values.credentials }}
        {{- if and .existingSecret (eq .method "env") }}
        - name: CLICKHOUSE_CLOUD_API_KEY
          valueFrom:
            secretKeyRef:
              name: {{ .existingSecret }}
              key: {{ .keyIdKey }}
        - name: CLICKHOUSE_CLOUD_API_SECRET
          valueFrom:
            secretKeyRef:
              name: {{ .existingSecret }}
              key: {{ .keySecretKey }}
        {{- end }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: metrics
          containerPort: {{ .Values.web.port }}
          protocol: TCP
      startupProbe:
        exec:
          command:
            {{- include "exporter.healthcheck" . | nindent 12 }}
        {{- toYaml .Values.startupProbe | nindent 8 }}
      # Of the process, not of upstream: an outage there restarts nothing.
      livenessProbe:
        exec:
          command:
            {{- include "exporter.healthcheck" . | nindent 12 }}
        {{- toYaml .Values.livenessProbe | nindent 8 }}
      # Has data: a rollout with a wrong key does not pass for a success.
      readinessProbe:
        exec:
          command:
            {{- include "exporter.healthcheck" . | nindent 12 }}
            - --ready
        {{- toYaml .Values.readinessProbe | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      {{- with include "exporter.volumeMounts" . }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
  {{- with include "exporter.volumes" . }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- if .Values.topologySpreadConstraints }}
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
    {{- else }}
    - topologyKey: kubernetes.io/hostname
      maxSkew: 1
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "exporter.selectorLabels" . | nindent 10 }}
    {{- end }}
{{- end }}

{{/* Whole directories: a single file (subPath) would not follow when a key or
certificate is rotated. */}}
{{- define "exporter.volumeMounts" -}}
{{- $mounts := list }}
{{- if and (not .Values.demo.enabled) .Values.credentials.existingSecret (eq .Values.credentials.method "file") }}
{{- $mounts = append $mounts (dict "name" "credentials" "mountPath" "/etc/exporter/credentials" "readOnly" true) }}
{{- end }}
{{- if include "exporter.configMapName" . }}
{{- $mounts = append $mounts (dict "name" "config" "mountPath" "/etc/exporter/config" "readOnly" true) }}
{{- end }}
{{- if .Values.web.existingSecret }}
{{- $mounts = append $mounts (dict "name" "web" "mountPath" "/etc/exporter/web" "readOnly" true) }}
{{- end }}
{{- with concat $mounts .Values.extraVolumeMounts }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{- define "exporter.volumes" -}}
{{- $volumes := list }}
{{- with .Values.credentials }}
{{- if and (not $.Values.demo.enabled) .existingSecret (eq .method "file") }}
{{- $items := list (dict "key" .keyIdKey "path" "key-id") (dict "key" .keySecretKey "path" "key-secret") }}
{{- $volumes = append $volumes (dict "name" "credentials" "secret" (dict "secretName" .existingSecret "defaultMode" 288 "items" $items)) }}
{{- end }}
{{- end }}
{{- with include "exporter.configMapName" . }}
{{- $volumes = append $volumes (dict "name" "config" "configMap" (dict "name" .)) }}
{{- end }}
{{- with .Values.web.existingSecret }}
{{- $volumes = append $volumes (dict "name" "web" "secret" (dict "secretName" . "defaultMode" 288)) }}
{{- end }}
{{- with concat $volumes .Values.extraVolumes }}
{{- toYaml . }}
{{- end }}
{{- end }}
