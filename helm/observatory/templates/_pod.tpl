{{/* Parts of a pod that several workloads share. */}}

{{/* "true" where the release makes a CloudNativePG Cluster. Argument: the root. */}}
{{- define "observatory.makesCluster" -}}
{{- if and (eq .Values.database.mode "cnpg") (not .Values.database.cnpg.cluster) -}}true{{- end -}}
{{- end -}}

{{- define "observatory.clusterName" -}}
{{- default (printf "%s-db" (include "observatory.fullname" .)) .Values.database.cnpg.cluster -}}
{{- end -}}

{{- define "observatory.databaseSecretName" -}}
{{- if include "observatory.makesCluster" . -}}
{{- printf "%s-app" (include "observatory.clusterName" .) -}}
{{- else -}}
{{- default (printf "%s-database" (include "observatory.fullname" .)) .Values.database.existingSecret.name -}}
{{- end -}}
{{- end -}}

{{- define "observatory.databaseSecretKey" -}}
{{- ternary "uri" .Values.database.existingSecret.key (not (empty (include "observatory.makesCluster" .))) -}}
{{- end -}}

{{/* The Secret (existingSecret, key) with the roots of the database's certificate, as JSON; existingSecret may be empty. */}}
{{- define "observatory.databaseCa" -}}
{{- $ca := .Values.database.ca -}}
{{- if and (include "observatory.makesCluster" .) (not $ca.existingSecret) -}}
{{- dict "existingSecret" (printf "%s-ca" (include "observatory.clusterName" .)) "key" "ca.crt" | toJson -}}
{{- else -}}
{{- toJson $ca -}}
{{- end -}}
{{- end -}}

{{- define "observatory.databaseEnv" -}}
{{- $migrations := .root.Values.migrations.existingSecret -}}
{{- $own := and (eq .component "migrations") $migrations.name -}}
- name: "DATABASE_URL"
  valueFrom:
    secretKeyRef:
      name: {{ ternary $migrations.name (include "observatory.databaseSecretName" .root) (not (empty $own)) | quote }}
      key: {{ ternary $migrations.key (include "observatory.databaseSecretKey" .root) (not (empty $own)) | quote }}
{{- with default (ternary "verify-full" "" (not (empty (include "observatory.makesCluster" .root)))) .root.Values.database.sslMode }}
- name: "PGSSLMODE"
  value: {{ . | quote }}
{{- end }}
{{- if (include "observatory.databaseCa" .root | fromJson).existingSecret }}
- name: "PGSSLROOTCERT"
  value: "/etc/observatory/database/ca.crt"
{{- end }}
{{- end -}}

{{- define "observatory.commonEnv" -}}
- name: "OBSERVATORY_LOG"
  value: {{ .Values.log.filter | quote }}
- name: "HOME"
  value: "/tmp"
{{- end -}}

{{/* observatory.toml, for the roles of pipeline-services; a Job before the release could not mount its ConfigMap. */}}
{{- define "observatory.configEnv" -}}
- name: "OBSERVATORY_CONFIG"
  value: "/etc/observatory/config/observatory.toml"
{{- end -}}

{{/* A table of TOML and those inside of it. Numbers of values are floats to Helm; as JSON whole ones are written as such.
     Arguments: path, table. */}}
{{- define "observatory.tomlTable" -}}
[{{ .path }}]
{{- range $key, $value := .table }}
{{- if not (or (kindIs "map" $value) (kindIs "invalid" $value)) }}
{{ $key | quote }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{ include "observatory.tomlTable" (dict "path" (printf "%s.%s" $.path (quote $key)) "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Module blocks: those of the text, those of the map, and which modules run, which the workers say. */}}
{{- define "observatory.config" -}}
{{- $written := get (fromToml .Values.config) "modules" -}}
{{- $modules := mergeOverwrite (ternary (deepCopy $written) dict (kindIs "map" $written)) (deepCopy .Values.modules) -}}
{{- range $role := include "observatory.roles" . | fromJsonArray }}
{{- $block := get $modules $role }}
{{- $block = mergeOverwrite (ternary $block dict (kindIs "map" $block)) (dict "enabled" (index $.Values.workers $role).enabled) }}
{{ include "observatory.tomlTable" (dict "path" (printf "modules.%s" $role) "table" $block) }}
{{- end }}
{{- end -}}

{{/* What a server listens on, and how it ends. Arguments: root, prefix (of the variables), spec. */}}
{{- define "observatory.serverEnv" -}}
- name: {{ printf "%s_LISTEN" .prefix | quote }}
  value: {{ printf "%s:%s" .root.Values.listenAddress (include "observatory.grpcPort" .) | quote }}
- name: {{ printf "%s_METRICS_LISTEN" .prefix | quote }}
  value: {{ printf "%s:%s" .root.Values.listenAddress (include "observatory.metricsPort" .) | quote }}
- name: {{ printf "%s_LAME_DUCK_SECONDS" .prefix | quote }}
  value: {{ .root.Values.lameDuckSeconds | int | toString | quote }}
- name: {{ printf "%s_DRAIN_SECONDS" .prefix | quote }}
  value: {{ .spec.drainSeconds | int | toString | quote }}
{{- end -}}

{{/* Everything the chart says to the inference server. Argument: the root. */}}
{{- define "observatory.inferenceEnv" -}}
{{- $spec := .Values.inference -}}
{{ include "observatory.commonEnv" . }}
{{ include "observatory.serverEnv" (dict "root" . "prefix" "OBSERVATORY_INFERENCE" "spec" $spec) }}
{{- if $spec.http.enabled }}
- name: "OBSERVATORY_INFERENCE_HTTP_LISTEN"
  value: {{ printf "%s:%s" .Values.listenAddress (include "observatory.httpPort" .) | quote }}
{{- end }}
- name: "OBSERVATORY_MODELS"
  value: "/models"
{{- with $spec.models.names }}
- name: "OBSERVATORY_INFERENCE_MODEL"
  value: {{ join "," . | quote }}
{{- end }}
- name: "OBSERVATORY_INFERENCE_DEVICE"
  value: {{ ternary "cuda" "cpu" $spec.gpu.enabled | quote }}
{{- with include "observatory.serverTlsEnv" (dict "prefix" "OBSERVATORY_INFERENCE" "spec" $spec) | trim }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Everything the chart says to a role of pipeline-services. Arguments: root, component, spec. */}}
{{- define "observatory.pipelineEnv" -}}
{{ include "observatory.commonEnv" .root }}
{{ include "observatory.configEnv" .root }}
{{ include "observatory.serverEnv" (dict "root" .root "prefix" "OBSERVATORY" "spec" .spec) }}
{{ include "observatory.databaseEnv" . }}
- name: "OBSERVATORY_DATABASE_CONNECTIONS"
  value: {{ .root.Values.database.connections | int | toString | quote }}
{{ include "observatory.pipelineServerEnv" .root | trim }}
{{- with include "observatory.callerEnv" .root | trim }}
{{ . }}
{{- end }}
{{- if get .spec "volume" }}
- name: "OBSERVATORY_REPORTS"
  value: "/reports"
{{- end }}
{{- if (default dict (get .spec "cache")).enabled }}
- name: "OBSERVATORY_CACHE"
  value: "/cache"
{{- end }}
{{- end -}}

{{- define "observatory.extraEnv" -}}
{{- range . }}
- name: {{ .name | quote }}
  {{- if .valueFrom }}
  valueFrom: {{ toJson .valueFrom }}
  {{- else }}
  value: {{ .value | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "observatory.commonMounts" -}}
- name: "tmp"
  mountPath: "/tmp"
{{- end -}}

{{- define "observatory.configMounts" -}}
- name: "config"
  mountPath: "/etc/observatory/config"
  readOnly: true
{{- end -}}

{{- define "observatory.databaseMounts" -}}
{{- if (include "observatory.databaseCa" . | fromJson).existingSecret }}
- name: "database-ca"
  mountPath: "/etc/observatory/database"
  readOnly: true
{{- end }}
{{- end -}}

{{/* A file of a Secret as a volume. Arguments: name, secret (a name and a key), path. */}}
{{- define "observatory.secretVolume" -}}
- name: {{ .name | quote }}
  secret:
    secretName: {{ .secret.existingSecret | quote }}
    items:
      - key: {{ .secret.key | quote }}
        path: {{ .path | quote }}
{{- end -}}

{{/* A whole directory each: a single file mounted by subPath would never be renewed. */}}
{{- define "observatory.secretMount" -}}
- name: {{ .name | quote }}
  mountPath: {{ printf "/etc/observatory/%s" .name | quote }}
  readOnly: true
{{- end -}}

{{/* Certificate and key of a Secret. Arguments: name, secret (its name). */}}
{{- define "observatory.pairVolume" -}}
- name: {{ .name | quote }}
  secret:
    secretName: {{ .secret | quote }}
    items:
      - { key: "tls.crt", path: "tls.crt" }
      - { key: "tls.key", path: "tls.key" }
{{- end -}}

{{/* What a server shows, and whom it lets in. Arguments: prefix of the variables, spec (tls, clients). */}}
{{- define "observatory.serverTlsEnv" -}}
{{- $prefix := .prefix -}}
{{- with .spec -}}
{{- if .tls.existingSecret }}
- name: {{ printf "%s_TLS_CERT" $prefix | quote }}
  value: "/etc/observatory/server-certificate/tls.crt"
- name: {{ printf "%s_TLS_KEY" $prefix | quote }}
  value: "/etc/observatory/server-certificate/tls.key"
{{- end }}
{{- if .tls.clientCa.existingSecret }}
- name: {{ printf "%s_TLS_CLIENT_CA" $prefix | quote }}
  value: "/etc/observatory/client-ca/ca.crt"
{{- end }}
{{- if .clients.existingSecret }}
- name: {{ printf "%s_CLIENTS_FILE" $prefix | quote }}
  value: "/etc/observatory/clients/clients.toml"
{{- end }}
{{- end -}}
{{- end -}}

{{/* Argument: spec (tls, clients), of this server alone. */}}
{{- define "observatory.serverTlsMounts" -}}
{{- if .tls.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "server-certificate") }}
{{- end }}
{{- if .tls.clientCa.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "client-ca") }}
{{- end }}
{{- if .clients.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "clients") }}
{{- end }}
{{- end -}}

{{- define "observatory.serverTlsVolumes" -}}
{{- if .tls.existingSecret }}
{{ include "observatory.pairVolume" (dict "name" "server-certificate" "secret" .tls.existingSecret) }}
{{- end }}
{{- if .tls.clientCa.existingSecret }}
{{ include "observatory.secretVolume" (dict "name" "client-ca" "secret" .tls.clientCa "path" "ca.crt") }}
{{- end }}
{{- if .clients.existingSecret }}
{{ include "observatory.secretVolume" (dict "name" "clients" "secret" .clients "path" "clients.toml") }}
{{- end }}
{{- end -}}

{{/* Whom the pipeline's services let in. Argument: the root. */}}
{{- define "observatory.pipelineServerEnv" -}}
{{ include "observatory.serverTlsEnv" (dict "prefix" "OBSERVATORY" "spec" .Values.pipeline) | trim }}
{{- with .Values.pipeline.adminTokenSha256 }}
- name: "OBSERVATORY_ADMIN_TOKEN_SHA256"
  value: {{ . | quote }}
{{- end }}
- name: "OBSERVATORY_ANONYMOUS"
  value: {{ join "," .Values.pipeline.anonymous | default "none" | quote }}
{{- end -}}

{{/* Where people and tools find the pipeline's services, and what `helm test` shows to them. Argument: the root. */}}
{{- define "observatory.endpointEnv" -}}
- name: "OBSERVATORY_ENDPOINT"
  value: {{ include "observatory.orchestratorUrl" . | quote }}
{{- with .Values.pipeline }}
{{- if .tls.existingSecret }}
- name: "OBSERVATORY_ENDPOINT_CA"
  value: "/etc/observatory/endpoint-ca/ca.crt"
{{- end }}
{{- if .credentials.certificate.existingSecret }}
- name: "OBSERVATORY_ENDPOINT_CERT"
  value: "/etc/observatory/endpoint-certificate/tls.crt"
- name: "OBSERVATORY_ENDPOINT_KEY"
  value: "/etc/observatory/endpoint-certificate/tls.key"
{{- end }}
{{- if .credentials.token.existingSecret }}
- name: "OBSERVATORY_ENDPOINT_TOKEN_FILE"
  value: "/etc/observatory/endpoint-token/token"
{{- if not .tls.existingSecret }}
# The mesh encrypts.
- name: "OBSERVATORY_ENDPOINT_PLAINTEXT_TOKEN"
  value: "true"
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "observatory.endpointMounts" -}}
{{- with .Values.pipeline -}}
{{- if .tls.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "endpoint-ca") }}
{{- end }}
{{- if .credentials.certificate.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "endpoint-certificate") }}
{{- end }}
{{- if .credentials.token.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "endpoint-token") }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "observatory.endpointVolumes" -}}
{{- with .Values.pipeline -}}
{{- if .tls.existingSecret }}
{{- $ca := dict "existingSecret" (default .tls.existingSecret .tls.ca.existingSecret) "key" .tls.ca.key }}
{{ include "observatory.secretVolume" (dict "name" "endpoint-ca" "secret" $ca "path" "ca.crt") }}
{{- end }}
{{- if .credentials.certificate.existingSecret }}
{{ include "observatory.pairVolume" (dict "name" "endpoint-certificate" "secret" .credentials.certificate.existingSecret) }}
{{- end }}
{{- if .credentials.token.existingSecret }}
{{ include "observatory.secretVolume" (dict "name" "endpoint-token" "secret" .credentials.token "path" "token") }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Where callers find the inference server, and what they show to it. Argument: the root. */}}
{{- define "observatory.callerEnv" -}}
{{- if .Values.inference.enabled -}}
- name: "OBSERVATORY_INFERENCE"
  value: {{ include "observatory.inferenceUrl" . | quote }}
{{- with .Values.inference }}
{{- if .tls.existingSecret }}
- name: "OBSERVATORY_INFERENCE_CA"
  value: "/etc/observatory/server-ca/ca.crt"
{{- end }}
{{- if .credentials.certificate.existingSecret }}
- name: "OBSERVATORY_INFERENCE_CERT"
  value: "/etc/observatory/certificate/tls.crt"
- name: "OBSERVATORY_INFERENCE_KEY"
  value: "/etc/observatory/certificate/tls.key"
{{- end }}
{{- if .credentials.token.existingSecret }}
- name: "OBSERVATORY_INFERENCE_TOKEN_FILE"
  value: "/etc/observatory/token/token"
{{- if not .tls.existingSecret }}
# The mesh encrypts.
- name: "OBSERVATORY_INFERENCE_PLAINTEXT_TOKEN"
  value: "true"
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "observatory.callerMounts" -}}
{{- if .Values.inference.enabled -}}
{{- with .Values.inference -}}
{{- if .tls.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "server-ca") }}
{{- end }}
{{- if .credentials.certificate.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "certificate") }}
{{- end }}
{{- if .credentials.token.existingSecret }}
{{ include "observatory.secretMount" (dict "name" "token") }}
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.callerVolumes" -}}
{{- if .Values.inference.enabled -}}
{{- with .Values.inference -}}
{{- if .tls.existingSecret }}
{{- $ca := dict "existingSecret" (default .tls.existingSecret .tls.ca.existingSecret) "key" .tls.ca.key }}
{{ include "observatory.secretVolume" (dict "name" "server-ca" "secret" $ca "path" "ca.crt") }}
{{- end }}
{{- if .credentials.certificate.existingSecret }}
{{ include "observatory.pairVolume" (dict "name" "certificate" "secret" .credentials.certificate.existingSecret) }}
{{- end }}
{{- if .credentials.token.existingSecret }}
{{ include "observatory.secretVolume" (dict "name" "token" "secret" .credentials.token "path" "token") }}
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.commonVolumes" -}}
- name: "tmp"
  emptyDir:
    sizeLimit: "1Gi"
{{- end -}}

{{- define "observatory.configVolumes" -}}
- name: "config"
  configMap:
    name: {{ printf "%s-config" (include "observatory.fullname" .) | quote }}
{{- end -}}

{{- define "observatory.databaseVolumes" -}}
{{- with include "observatory.databaseCa" . | fromJson }}
{{- if .existingSecret }}
{{ include "observatory.secretVolume" (dict "name" "database-ca" "secret" . "path" "ca.crt") }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A volume by its "type": a new claim, an existing one, or an emptyDir. Arguments: name, claim, volume. */}}
{{- define "observatory.volume" -}}
- name: {{ .name | quote }}
{{- if eq .volume.type "emptyDir" }}
  emptyDir:
    sizeLimit: {{ .volume.emptyDir.sizeLimit | quote }}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ ternary .volume.existingClaim .claim (eq .volume.type "existingClaim") | quote }}
{{- end }}
{{- end -}}

{{/* The claim itself. Arguments: root, component, claim, volume. */}}
{{- define "observatory.claim" -}}
apiVersion: "v1"
kind: "PersistentVolumeClaim"
metadata:
  {{- $keep := ternary (dict "helm.sh/resource-policy" "keep") nil .volume.pvc.keep }}
  {{- include "observatory.metadata" (merge (dict "name" .claim "annotations" $keep) .) | nindent 2 }}
spec:
  accessModes: {{ toJson .volume.pvc.accessModes }}
  {{- with default .root.Values.global.storageClass .volume.pvc.storageClass }}
  storageClassName: {{ . | quote }}
  {{- end }}
  resources:
    requests:
      storage: {{ .volume.pvc.size | quote }}
{{- end -}}

{{/* The init container that holds a pod back until the schema is there. */}}
{{- define "observatory.waitForSchema" -}}
- name: "wait-for-schema"
  image: {{ include "observatory.image" . | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy | quote }}
  command: ["pipeline-services"]
  args: {{ include "observatory.waitSchemaArgs" .root }}
  env:
    {{- include "observatory.commonEnv" .root | nindent 4 }}
    {{- include "observatory.databaseEnv" . | nindent 4 }}
  resources:
    {{- include "observatory.resources" (dict "resources" .root.Values.migrations.resources "gpu" nil) | trim | nindent 4 }}
  securityContext:
    {{- include "observatory.containerSecurity" . | nindent 4 }}
  volumeMounts:
    {{- include "observatory.commonMounts" .root | nindent 4 }}
    {{- with include "observatory.databaseMounts" .root | trim }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* Labels and annotations of a pod. A user's annotation replaces the chart's. Arguments: root, component, spec, server. */}}
{{- define "observatory.podMetadata" -}}
{{- $values := .root.Values -}}
{{- $annotations := include "observatory.meshAnnotations" . | fromJson -}}
{{- if and .server $values.monitoring.annotations.enabled -}}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" (include "observatory.metricsPort" .) -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- if and .server (ne .component "inference") -}}
{{- $_ := set $annotations "checksum/config" (include "observatory.config" .root | sha256sum) -}}
{{- with printf "%s%s" $values.database.url $values.database.revision -}}
{{- $_ := set $annotations "checksum/database" (sha256sum .) -}}
{{- end -}}
{{- end -}}
labels:
  {{- include "observatory.podLabels" . | nindent 2 }}
{{- with mergeOverwrite $annotations (default dict (get .spec "podAnnotations")) }}
annotations:
  {{- include "observatory.strings" . | trim | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What the users of a component add. Argument: spec. */}}
{{- define "observatory.extraVolumes" -}}
{{- range .extraVolumes }}
- {{ toJson . }}
{{- end }}
{{- end -}}

{{- define "observatory.extraMounts" -}}
{{- range .extraVolumeMounts }}
- {{ toJson . }}
{{- end }}
{{- end -}}

{{/* Argument: a list of containers. */}}
{{- define "observatory.extraContainers" -}}
{{- range . }}
{{- $security := include "observatory.containerSecurity" . | fromYaml }}
- {{ mergeOverwrite (deepCopy .) (dict "securityContext" $security) | toJson }}
{{- end }}
{{- end -}}

{{/* Fields every pod starts with. */}}
{{- define "observatory.podBase" -}}
serviceAccountName: {{ include "observatory.serviceAccountName" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.dnsPolicy }}
dnsPolicy: {{ . | quote }}
{{- end }}
{{- with .root.Values.dnsConfig }}
dnsConfig: {{ toJson . }}
{{- end }}
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ .name | quote }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "observatory.podSecurity" .root | nindent 2 }}
{{- end -}}
