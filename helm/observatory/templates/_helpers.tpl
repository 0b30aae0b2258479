{{/* Names. Components are "inference", "orchestrator", "migrations", "test" and the six workers. */}}
{{- define "observatory.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "observatory.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "observatory.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.roles" -}}
{{- list "scraper" "extractor" "enhancer" "embedder" "analyzer" "reporter" | toJson -}}
{{- end -}}

{{/* Selector labels never change between versions: a Deployment's selector is immutable. Arguments: root, component. */}}
{{- define "observatory.releaseLabels" -}}
app.kubernetes.io/name: {{ include "observatory.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "observatory.selectorLabels" -}}
{{ include "observatory.releaseLabels" .root }}
app.kubernetes.io/component: {{ .component | quote }}
{{- end -}}

{{/* Pods carry no chart version: a change of the chart alone restarts nothing. */}}
{{- define "observatory.podLabels" -}}
{{ include "observatory.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: "observatory"
{{- end -}}

{{- define "observatory.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | quote }}
{{ include "observatory.podLabels" . }}
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
{{- end -}}

{{- define "observatory.serviceAccountName" -}}
{{- if .root.Values.serviceAccount.create -}}
{{- printf "%s-%s" (include "observatory.fullname" .root) .component -}}
{{- else -}}
{{- default "default" .root.Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The image of a component. The inference server may use its own; a GPU asks for the CUDA build. */}}
{{- define "observatory.image" -}}
{{- $values := .root.Values -}}
{{- $repository := $values.image.repository -}}
{{- $tag := default .root.Chart.AppVersion $values.image.tag -}}
{{- $digest := $values.image.digest -}}
{{- if eq .component "inference" -}}
{{- $own := $values.inference.image -}}
{{- $repository = default $repository $own.repository -}}
{{- if $own.digest -}}
{{- $digest = $own.digest -}}
{{- else if $own.tag -}}
{{- $tag = $own.tag -}}
{{- $digest = "" -}}
{{- else if $values.inference.gpu.enabled -}}
{{- $tag = printf "%s-cuda" $tag -}}
{{- $digest = "" -}}
{{- else if $own.repository -}}
{{- $digest = "" -}}
{{- end -}}
{{- end -}}
{{- with $values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if $digest -}}
{{- printf "%s@%s" $repository $digest -}}
{{- else -}}
{{- printf "%s:%s" $repository $tag -}}
{{- end -}}
{{- end -}}

{{/* The command that waits for the schema and the one that makes it: the only places that name them.
     Without --min-version a binary waits for the newest migration it knows. */}}
{{- define "observatory.waitSchemaArgs" -}}
{{- $args := list "wait-schema" "--timeout" (.Values.migrations.waitSeconds | int | toString) -}}
{{- with .Values.database.schemaVersion -}}
{{- $args = concat $args (list "--min-version" .) -}}
{{- end -}}
{{- toJson $args -}}
{{- end -}}

{{- define "observatory.migrateArgs" -}}
{{- list "migrate" | toJson -}}
{{- end -}}

{{/* Ports of every server of the release. */}}
{{- define "observatory.grpcPort" -}}50051{{- end -}}
{{- define "observatory.metricsPort" -}}9464{{- end -}}

{{- define "observatory.containerPorts" -}}
- name: "grpc"
  containerPort: {{ include "observatory.grpcPort" . }}
  protocol: "TCP"
- name: "metrics"
  containerPort: {{ include "observatory.metricsPort" . }}
  protocol: "TCP"
{{- end -}}

{{/* "tls" (a Secret's name) is set for a server that speaks it: a proxy that reads appProtocol must not take its
     port for plain HTTP/2. */}}
{{- define "observatory.servicePorts" -}}
- name: "grpc"
  port: {{ include "observatory.grpcPort" . }}
  targetPort: "grpc"
  protocol: "TCP"
  appProtocol: {{ ternary "https" "grpc" (not (empty .tls)) | quote }}
- name: "metrics"
  port: {{ include "observatory.metricsPort" . }}
  targetPort: "metrics"
  protocol: "TCP"
  appProtocol: "http"
{{- end -}}

{{/* Where callers find the inference server: the mesh balances a ClusterIP, a client balances the headless name. */}}
{{- define "observatory.inferenceUrl" -}}
{{- $suffix := ternary "-headless" "" (eq .Values.mesh.mode "none") -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.inference.tls.existingSecret)) -}}
{{- printf "%s://%s-inference%s.%s.svc:%s" $scheme (include "observatory.fullname" .) $suffix .Release.Namespace (include "observatory.grpcPort" .) -}}
{{- end -}}

{{- define "observatory.orchestratorUrl" -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.pipeline.tls.existingSecret)) -}}
{{- printf "%s://%s-orchestrator.%s.svc:%s" $scheme (include "observatory.fullname" .) .Release.Namespace (include "observatory.grpcPort" .) -}}
{{- end -}}

{{/* 5 s until endpoints have forgotten the pod, the drain itself, 10 s to release devices and exit. */}}
{{- define "observatory.gracePeriod" -}}
{{- add 5 (int .drainSeconds) 10 -}}
{{- end -}}

{{/* Native gRPC probes on the health names "" (the process) and "ready" (its dependencies, or its models). They speak no
     TLS: where "tls" is set the server is asked for the same names over HTTP, on the port of its metrics. */}}
{{- define "observatory.probes" -}}
{{- $period := int .probes.periodSeconds -}}
startupProbe:
  {{- include "observatory.probe" (dict "tls" .tls "service" "") | nindent 2 }}
  periodSeconds: {{ $period }}
  timeoutSeconds: {{ int .probes.timeoutSeconds }}
  failureThreshold: {{ div (add (int .probes.startupBudgetSeconds) (sub $period 1)) $period }}
livenessProbe:
  {{- include "observatory.probe" (dict "tls" .tls "service" "") | nindent 2 }}
  periodSeconds: {{ $period }}
  timeoutSeconds: {{ int .probes.timeoutSeconds }}
  failureThreshold: {{ int .probes.failureThreshold }}
readinessProbe:
  {{- include "observatory.probe" (dict "tls" .tls "service" "ready") | nindent 2 }}
  periodSeconds: {{ $period }}
  timeoutSeconds: {{ int .probes.timeoutSeconds }}
  failureThreshold: {{ int .probes.failureThreshold }}
{{- end -}}

{{- define "observatory.probe" -}}
{{- if .tls -}}
httpGet:
  port: "metrics"
  path: {{ ternary "/readyz" "/livez" (eq .service "ready") | quote }}
{{- else -}}
grpc:
  port: {{ include "observatory.grpcPort" . }}
  service: {{ .service | quote }}
{{- end -}}
{{- end -}}

{{- define "observatory.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.security.runAsUser }}
runAsUser: {{ int . }}
{{- end }}
{{- with .Values.security.runAsGroup }}
runAsGroup: {{ int . }}
{{- end }}
{{- with .Values.security.fsGroup }}
fsGroup: {{ int . }}
fsGroupChangePolicy: "OnRootMismatch"
{{- end }}
seccompProfile:
  type: "RuntimeDefault"
{{- end -}}

{{- define "observatory.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: ["ALL"]
seccompProfile:
  type: "RuntimeDefault"
{{- end -}}

{{/* Requests and limits with every quantity as a string; "gpu" (name and count) is added to both. */}}
{{- define "observatory.resources" -}}
{{- $gpu := .gpu -}}
{{- $resources := .resources -}}
{{- range $kind := list "requests" "limits" }}
{{ $kind }}:
{{- range $name, $quantity := index $resources $kind }}
  {{ $name }}: {{ $quantity | toString | quote }}
{{- end }}
{{- with $gpu }}
  {{ .resourceName }}: {{ .count | int | toString | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Mesh: labels and annotations of a pod. Arguments: root, server (false for Jobs, which a sidecar would keep alive). */}}
{{- define "observatory.meshLabels" -}}
{{- if eq .root.Values.mesh.mode "istio" }}
sidecar.istio.io/inject: {{ ternary "true" "false" .server | quote }}
{{- end }}
{{- end -}}

{{- define "observatory.meshAnnotations" -}}
{{- $values := .root.Values -}}
{{- if eq $values.mesh.mode "linkerd" }}
linkerd.io/inject: {{ ternary "enabled" "disabled" .server | quote }}
{{- if and .server $values.mesh.excludeDatabasePort }}
config.linkerd.io/skip-outbound-ports: {{ $values.database.port | int | toString | quote }}
{{- end }}
{{- else if and (eq $values.mesh.mode "istio") .server $values.mesh.excludeDatabasePort }}
traffic.sidecar.istio.io/excludeOutboundPorts: {{ $values.database.port | int | toString | quote }}
{{- end }}
{{- end -}}

{{/* Scheduling fields shared by every workload. Arguments: root, component, spec (the component's values), tolerations. */}}
{{- define "observatory.scheduling" -}}
{{- with .spec.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .spec.nodeSelector }}
nodeSelector:
  {{- range $key, $value := . }}
  {{ $key | quote }}: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- with .spec.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .spec.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - maxSkew: {{ int .maxSkew }}
    topologyKey: {{ .topologyKey | quote }}
    whenUnsatisfiable: {{ .whenUnsatisfiable | quote }}
    labelSelector:
      matchLabels:
        {{- include "observatory.selectorLabels" $ | nindent 8 }}
  {{- end }}
{{- end }}
{{- end -}}
