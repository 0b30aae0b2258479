{{/* Parts of a pod that several workloads share. */}}

{{- define "observatory.databaseSecretName" -}}
{{- default (printf "%s-database" (include "observatory.fullname" .)) .Values.database.existingSecret.name -}}
{{- end -}}

{{- define "observatory.databaseEnv" -}}
{{- $migrations := .root.Values.migrations.existingSecret -}}
{{- $own := and (eq .component "migrations") $migrations.name -}}
- name: "DATABASE_URL"
  valueFrom:
    secretKeyRef:
      name: {{ ternary $migrations.name (include "observatory.databaseSecretName" .root) (not (empty $own)) | quote }}
      key: {{ ternary $migrations.key .root.Values.database.existingSecret.key (not (empty $own)) | quote }}
{{- if .root.Values.database.ca.existingSecret }}
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
{{- if .Values.config }}
- name: "OBSERVATORY_CONFIG"
  value: "/etc/observatory/config/observatory.toml"
{{- end }}
{{- end -}}

{{/* What a server listens on, and how long it drains. Arguments: prefix (of the variables), spec. */}}
{{- define "observatory.serverEnv" -}}
- name: {{ printf "%s_LISTEN" .prefix | quote }}
  value: {{ printf "0.0.0.0:%s" (include "observatory.grpcPort" .) | quote }}
- name: {{ printf "%s_METRICS_LISTEN" .prefix | quote }}
  value: {{ printf "0.0.0.0:%s" (include "observatory.metricsPort" .) | quote }}
- name: {{ printf "%s_DRAIN_SECONDS" .prefix | quote }}
  value: {{ .spec.drainSeconds | int | toString | quote }}
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
{{- if .Values.config }}
- name: "config"
  mountPath: "/etc/observatory/config"
  readOnly: true
{{- end }}
{{- end -}}

{{- define "observatory.databaseMounts" -}}
{{- if .Values.database.ca.existingSecret }}
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
{{- if .Values.config }}
- name: "config"
  configMap:
    name: {{ printf "%s-config" (include "observatory.fullname" .) | quote }}
{{- end }}
{{- end -}}

{{- define "observatory.databaseVolumes" -}}
{{- with .Values.database.ca }}
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
  name: {{ .claim | quote }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels:
    {{- include "observatory.labels" . | nindent 4 }}
  {{- if .volume.pvc.keep }}
  annotations:
    helm.sh/resource-policy: "keep"
  {{- end }}
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

{{/* Labels and annotations of a server's pod. Arguments: root, component, spec, server. */}}
{{- define "observatory.podMetadata" -}}
{{- $annotations := include "observatory.meshAnnotations" . | trim -}}
{{- $config := ternary .root.Values.config "" (and .server (ne .component "inference")) -}}
labels:
  {{- include "observatory.podLabels" . | nindent 2 }}
  {{- with include "observatory.meshLabels" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- if or $annotations $config .spec.podAnnotations }}
annotations:
  {{- with $annotations }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $config }}
  checksum/config: {{ sha256sum . | quote }}
  {{- end }}
  {{- range $key, $value := .spec.podAnnotations }}
  {{ $key | quote }}: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Fields every pod starts with. */}}
{{- define "observatory.podBase" -}}
serviceAccountName: {{ include "observatory.serviceAccountName" . | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ .name | quote }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "observatory.podSecurity" .root | nindent 2 }}
{{- end -}}
