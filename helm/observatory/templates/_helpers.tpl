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

{{/* A map of strings, one quoted entry a line. */}}
{{- define "observatory.strings" -}}
{{- range $key, $value := . }}
{{ $key | quote }}: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Labels that a user cannot replace, as JSON: what the selectors look for, and what says whose the object is.
     Arguments: root, component. */}}
{{- define "observatory.fixedLabels" -}}
{{- dict "app.kubernetes.io/name" (include "observatory.name" .root)
    "app.kubernetes.io/instance" .root.Release.Name
    "app.kubernetes.io/component" .component
    "app.kubernetes.io/version" .root.Chart.AppVersion
    "app.kubernetes.io/part-of" "observatory" | toJson -}}
{{- end -}}

{{/* Labels of a pod. It carries no chart version: a change of the chart alone restarts nothing.
     Arguments: root, component, server, spec (its podLabels). */}}
{{- define "observatory.podLabels" -}}
{{- $own := include "observatory.meshLabels" . | fromJson -}}
{{- $fixed := include "observatory.fixedLabels" . | fromJson -}}
{{- $added := mergeOverwrite dict .root.Values.commonLabels .root.Values.podLabels (default dict (get .spec "podLabels")) -}}
{{- include "observatory.strings" (mergeOverwrite $added $own $fixed) | trim -}}
{{- end -}}

{{- define "observatory.labels" -}}
{{- $fixed := include "observatory.fixedLabels" . | fromJson -}}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $fixed "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_") -}}
{{- include "observatory.strings" (mergeOverwrite dict .root.Values.commonLabels (default dict .labels) $fixed) | trim -}}
{{- end -}}

{{/* Metadata of an object. Arguments: root, component, name, annotations (a map, may be absent), labels (likewise). */}}
{{- define "observatory.metadata" -}}
name: {{ .name | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- include "observatory.labels" . | nindent 2 }}
{{- with .annotations }}
annotations:
  {{- include "observatory.strings" . | trim | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The hook's account is another one than the release's: an object that a hook made has no owner, and Helm would refuse to
     take it over when the mode changes. */}}
{{- define "observatory.serviceAccountName" -}}
{{- if .root.Values.serviceAccount.create -}}
{{- $hook := and (eq .component "migrations") (eq .root.Values.migrations.mode "hook") -}}
{{- printf "%s-%s%s" (include "observatory.fullname" .root) .component (ternary "-hook" "" $hook) -}}
{{- else -}}
{{- default "default" .root.Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The GPU that the inference server asks for, as JSON: of a named profile, or of the values themselves. */}}
{{- define "observatory.gpu" -}}
{{- $gpu := .Values.inference.gpu -}}
{{- $result := dict "resourceName" $gpu.resourceName "count" $gpu.count "tolerations" $gpu.tolerations "nodeSelector" dict -}}
{{- $_ := set $result "imageTagSuffix" "cuda" -}}
{{- $_ := set $result "runtimeClassName" "" -}}
{{- with $gpu.profile -}}
{{- with get $.Values.gpuProfiles . -}}
{{- $suffix := printf "cuda-sm%s" (.computeCapability | replace "." "") -}}
{{- $result = merge (dict "count" $gpu.count "imageTagSuffix" (default $suffix .imageTagSuffix)) . -}}
{{- end -}}
{{- end -}}
{{- toJson $result -}}
{{- end -}}

{{/* The image of a component. The inference server may use its own; a GPU asks for a CUDA build. */}}
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
{{- else if $values.inference.gpu.enabled -}}
{{- $tag = printf "%s-%s" $tag (include "observatory.gpu" .root | fromJson).imageTagSuffix -}}
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
     A binary waits for the newest migration it knows. */}}
{{- define "observatory.waitSchemaArgs" -}}
{{- list "wait-schema" "--timeout" (.Values.migrations.waitSeconds | int | toString) | toJson -}}
{{- end -}}

{{- define "observatory.migrateArgs" -}}
{{- list "migrate" | toJson -}}
{{- end -}}

{{/* Ports of every server of the release. */}}
{{- define "observatory.grpcPort" -}}50051{{- end -}}
{{- define "observatory.metricsPort" -}}9464{{- end -}}

{{/* Argument: http (the port of the HTTP door, 0 where there is none). */}}
{{- define "observatory.containerPorts" -}}
- name: "grpc"
  containerPort: {{ include "observatory.grpcPort" . }}
  protocol: "TCP"
- name: "metrics"
  containerPort: {{ include "observatory.metricsPort" . }}
  protocol: "TCP"
{{- if .http }}
- name: "http"
  containerPort: {{ int .http }}
  protocol: "TCP"
{{- end }}
{{- end -}}

{{/* Families of a Service. Argument: the root. */}}
{{- define "observatory.serviceFamilies" -}}
{{- with .Values.ipFamilyPolicy }}
ipFamilyPolicy: {{ . | quote }}
{{- end }}
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
{{- if .http }}
- name: "http"
  port: {{ int .http }}
  targetPort: "http"
  protocol: "TCP"
  appProtocol: {{ ternary "https" "http" (not (empty .tls)) | quote }}
{{- end }}
{{- end -}}

{{/* Port of the inference server's HTTP door, 0 where it is closed. Argument: the root. */}}
{{- define "observatory.httpPort" -}}
{{- with .Values.inference.http -}}{{- ternary (int .port) 0 .enabled -}}{{- end -}}
{{- end -}}

{{/* "true" where proxies stand next to the servers. Argument: the root. */}}
{{- define "observatory.sidecars" -}}
{{- if has .Values.mesh.mode (list "istio" "linkerd") -}}true{{- end -}}
{{- end -}}

{{/* Where callers find the inference server: sidecars balance a ClusterIP, a client balances the headless name. */}}
{{- define "observatory.inferenceUrl" -}}
{{- $suffix := ternary "" "-headless" (not (empty (include "observatory.sidecars" .))) -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.inference.tls.existingSecret)) -}}
{{- printf "%s://%s-inference%s.%s.svc:%s" $scheme (include "observatory.fullname" .) $suffix .Release.Namespace (include "observatory.grpcPort" .) -}}
{{- end -}}

{{- define "observatory.orchestratorUrl" -}}
{{- $scheme := ternary "https" "http" (not (empty .Values.pipeline.tls.existingSecret)) -}}
{{- printf "%s://%s-orchestrator.%s.svc:%s" $scheme (include "observatory.fullname" .) .Release.Namespace (include "observatory.grpcPort" .) -}}
{{- end -}}

{{/* Serving on until endpoints have forgotten the pod, the drain itself, 15 s to release devices and exit.
     Arguments: root, spec. */}}
{{- define "observatory.gracePeriod" -}}
{{- add (int .root.Values.lameDuckSeconds) (int .spec.drainSeconds) 15 -}}
{{- end -}}

{{/* "true" where a kubelet's gRPC probes would not be answered: they speak no TLS and have no identity in a mesh, and
     linkerd admits without one only HTTP. Arguments: root, tls (a Secret's name). */}}
{{- define "observatory.probesByHttp" -}}
{{- $mesh := .root.Values.mesh -}}
{{- if or .tls (and (eq $mesh.mode "linkerd") (or $mesh.authorization.enabled $mesh.strictMtls)) -}}true{{- end -}}
{{- end -}}

{{/* Native gRPC probes on the health names "" (the process) and "ready" (its dependencies, or its models), and for the
     start-up on one of the server's choice. Where these would not be answered the server is asked over HTTP, on the
     port of its metrics; a start-up is then that of the process, since no path says more.
     Arguments: probes, startup (a health name), http ("true" or empty). */}}
{{- define "observatory.probes" -}}
{{- $period := int .probes.periodSeconds -}}
startupProbe:
  {{- include "observatory.probe" (dict "http" .http "service" .startup) | nindent 2 }}
  periodSeconds: {{ $period }}
  timeoutSeconds: {{ int .probes.timeoutSeconds }}
  failureThreshold: {{ div (add (int .probes.startupBudgetSeconds) (sub $period 1)) $period }}
livenessProbe:
  {{- include "observatory.probe" (dict "http" .http "service" "") | nindent 2 }}
  periodSeconds: {{ $period }}
  timeoutSeconds: {{ int .probes.timeoutSeconds }}
  failureThreshold: {{ int .probes.failureThreshold }}
readinessProbe:
  {{- include "observatory.probe" (dict "http" .http "service" "ready") | nindent 2 }}
  periodSeconds: {{ $period }}
  timeoutSeconds: {{ int .probes.timeoutSeconds }}
  failureThreshold: {{ int .probes.failureThreshold }}
{{- end -}}

{{- define "observatory.probe" -}}
{{- if .http -}}
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
  {{ $name | quote }}: {{ $quantity | toString | quote }}
{{- end }}
{{- with $gpu }}
  {{ .resourceName | quote }}: {{ .count | int | toString | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where a pod runs. A component's own value replaces the global one. Arguments: root, component, spec, and of a GPU
     tolerations and nodeSelector, which are added. */}}
{{- define "observatory.scheduling" -}}
{{- $spec := .spec -}}
{{- $global := .root.Values.global.scheduling -}}
{{- with default $global.schedulerName (get $spec "schedulerName") }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with default $global.priorityClassName (get $spec "priorityClassName") }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with mergeOverwrite (deepCopy (default dict .nodeSelector)) (default $global.nodeSelector (get $spec "nodeSelector")) }}
nodeSelector:
  {{- include "observatory.strings" . | trim | nindent 2 }}
{{- end }}
{{- with default $global.affinity (get $spec "affinity") }}
affinity: {{ toJson . }}
{{- end }}
{{- with concat (default list .tolerations) (default $global.tolerations (get $spec "tolerations")) }}
tolerations: {{ toJson . }}
{{- end }}
{{- if hasKey $spec "topologySpreadConstraints" }}
{{- with default $global.topologySpreadConstraints $spec.topologySpreadConstraints }}
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
{{- end }}
{{- end -}}
