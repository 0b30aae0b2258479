{{/* Parts of a service mesh. */}}

{{/* "true" where a pod is inside of the mesh: a server always, a Job and the test only where their proxy ends with them.
     Arguments: root, server, component. */}}
{{- define "observatory.isMeshed" -}}
{{- $mesh := .root.Values.mesh -}}
{{- if eq $mesh.mode "none" -}}
{{- else if eq .component "migrations" -}}
{{- /* It talks to the database alone, which the mesh leaves out, and as a hook before the release exists. */ -}}
{{- else if or .server $mesh.nativeSidecars (eq $mesh.mode "ambient") -}}true
{{- end -}}
{{- end -}}

{{/* Labels of a pod, as JSON. */}}
{{- define "observatory.meshLabels" -}}
{{- $meshed := include "observatory.isMeshed" . -}}
{{- $mode := .root.Values.mesh.mode -}}
{{- $labels := dict -}}
{{- if eq $mode "istio" -}}
{{- $_ := set $labels "sidecar.istio.io/inject" (ternary "true" "false" (not (empty $meshed))) -}}
{{- else if eq $mode "ambient" -}}
{{- $_ := set $labels "sidecar.istio.io/inject" "false" -}}
{{- $_ := set $labels "istio.io/dataplane-mode" (ternary "ambient" "none" (not (empty $meshed))) -}}
{{- end -}}
{{- toJson $labels -}}
{{- end -}}

{{/* Annotations of a pod, as JSON. A proxy outlives the server's drain: native sidecars by themselves, others wait as long.
     Metrics stay out of the mesh, for a Prometheus that is. */}}
{{- define "observatory.meshAnnotations" -}}
{{- $mesh := .root.Values.mesh -}}
{{- $meshed := include "observatory.isMeshed" . -}}
{{- $database := .root.Values.database.port | int | toString -}}
{{- $metrics := include "observatory.metricsPort" . -}}
{{- $drain := add (int .root.Values.lameDuckSeconds) (int (default 0 (get .spec "drainSeconds"))) 5 -}}
{{- $result := dict -}}
{{- if eq $mesh.mode "linkerd" -}}
{{- $_ := set $result "linkerd.io/inject" (ternary "enabled" "disabled" (not (empty $meshed))) -}}
{{- if $meshed -}}
{{- if $mesh.nativeSidecars -}}
{{- $_ := set $result "config.beta.linkerd.io/proxy-enable-native-sidecar" "true" -}}
{{- else -}}
{{- $_ := set $result "config.alpha.linkerd.io/proxy-wait-before-exit-seconds" (toString $drain) -}}
{{- end -}}
{{- if .server -}}
{{- $_ := set $result "config.linkerd.io/skip-inbound-ports" $metrics -}}
{{- if $mesh.excludeDatabasePort -}}
{{- $_ := set $result "config.linkerd.io/skip-outbound-ports" $database -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- else if and (eq $mesh.mode "istio") $meshed -}}
{{- $proxy := dict "terminationDrainDuration" (printf "%ds" $drain) "holdApplicationUntilProxyStarts" (not $mesh.nativeSidecars) -}}
{{- $_ := set $result "proxy.istio.io/config" (toJson $proxy) -}}
{{- if $mesh.nativeSidecars -}}
{{- $_ := set $result "sidecar.istio.io/nativeSidecar" "true" -}}
{{- end -}}
{{- if .server -}}
{{- $_ := set $result "traffic.sidecar.istio.io/excludeInboundPorts" $metrics -}}
{{- if $mesh.excludeDatabasePort -}}
{{- $_ := set $result "traffic.sidecar.istio.io/excludeOutboundPorts" $database -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $result -}}
{{- end -}}

{{/* Ports that carry calls inside of the mesh, next to the server's own: policies see the proxy's. Argument: the root. */}}
{{- define "observatory.meshPorts" -}}
{{- if eq .Values.mesh.mode "linkerd" }}
- { port: 4143, protocol: "TCP" }
{{- else if eq .Values.mesh.mode "ambient" }}
- { port: 15008, protocol: "TCP" }
{{- end }}
{{- end -}}

{{/* Components whose pods call the servers of the release. */}}
{{- define "observatory.callers" -}}
{{- concat (include "observatory.roles" . | fromJsonArray) (list "orchestrator" "schedule" "test") | toJson -}}
{{- end -}}

{{/* The accounts of these components, each once, as JSON. Arguments: root, components. */}}
{{- define "observatory.accounts" -}}
{{- $root := .root -}}
{{- $names := list -}}
{{- range .components -}}
{{- $names = append $names (include "observatory.serviceAccountName" (dict "root" $root "component" .)) -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end -}}
