{{/* The pod, of a Deployment or of a StatefulSet. */}}
{{- define "exporter.podTemplate" -}}
metadata:
  labels:
    {{- /* Without the chart's version, which would restart pods for nothing. */}}
    {{- include "exporter.mergeLabels" (list .Values.podLabels .Values.commonLabels (include "exporter.selectorLabels" .)) | nindent 4 }}
  annotations:
    {{- $annotations := dict "kubectl.kubernetes.io/default-container" "exporter" }}
    {{- with .Values.config }}
    {{- $_ := set $annotations "checksum/config" (toYaml . | sha256sum) }}
    {{- end }}
    {{- toYaml (merge dict .Values.podAnnotations $annotations) | nindent 4 }}
spec:
  serviceAccountName: {{ include "exporter.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with include "exporter.fields" (list .Values "affinity" "dnsConfig" "dnsPolicy" "hostAliases" "imagePullSecrets" "initContainers" "nodeSelector" "priorityClassName" "tolerations") }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: exporter
      image: {{ include "exporter.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        {{- include "exporter.webArgs" . | nindent 8 }}
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
        {{- include "exporter.flags" (list . false) | indent 8 }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- with include "exporter.env" . }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: metrics
          containerPort: {{ .Values.web.port }}
          protocol: TCP
      {{- with .Values.startupProbe }}
      startupProbe:
        {{- include "exporter.probe" (dict "root" $ "probe" .) | nindent 8 }}
      {{- end }}
      {{- with .Values.livenessProbe }}
      # Of the process, not of upstream: an outage there restarts nothing.
      livenessProbe:
        {{- include "exporter.probe" (dict "root" $ "probe" .) | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      # Has data: a rollout with a wrong key does not pass for a success.
      readinessProbe:
        {{- include "exporter.probe" (dict "root" $ "probe" . "args" (list "--ready")) | nindent 8 }}
      {{- end }}
      {{- with include "exporter.fields" (list .Values "lifecycle" "resources" "securityContext") }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with include "exporter.volumeMounts" . }}
      volumeMounts:
        {{- . | nindent 8 }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with include "exporter.volumes" . }}
  volumes:
    {{- . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- with .Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
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

{{- define "exporter.env" -}}
{{- $env := list }}
{{- with include "exporter.goMemLimit" . }}
{{- $env = append $env (dict "name" "GOMEMLIMIT" "value" .) }}
{{- end }}
{{- if not .Values.demo.enabled }}
{{- with .Values.organizationId }}
{{- $env = append $env (dict "name" "CLICKHOUSE_ORG_ID" "value" .) }}
{{- end }}
{{- with .Values.credentials }}
{{- if and .existingSecret (eq .method "env") }}
{{- $env = append $env (dict "name" "CLICKHOUSE_CLOUD_API_KEY" "valueFrom" (dict "secretKeyRef" (dict "name" .existingSecret "key" .keyIdKey))) }}
{{- $env = append $env (dict "name" "CLICKHOUSE_CLOUD_API_SECRET" "valueFrom" (dict "secretKeyRef" (dict "name" .existingSecret "key" .keySecretKey))) }}
{{- end }}
{{- end }}
{{- end }}
{{- with concat $env .Values.extraEnv }}
{{- toYaml . }}
{{- end }}
{{- end }}
