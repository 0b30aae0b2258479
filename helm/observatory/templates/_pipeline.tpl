{{/* A role of `pipeline-services` with its Service and, for a role that writes files, its claim.
     Arguments: root, component, spec, server. */}}
{{- define "observatory.pipeline" -}}
{{- $root := .root -}}
{{- $spec := .spec -}}
{{- $name := printf "%s-%s" (include "observatory.fullname" $root) .component -}}
{{- $claim := printf "%s-reports" (include "observatory.fullname" $root) -}}
{{- $volume := get $spec "volume" -}}
{{- $cache := default dict (get $spec "cache") -}}
{{- $reload := ternary (dict "secret.reloader.stakater.com/reload" (include "observatory.databaseSecretName" $root)) nil $root.Values.database.reloader -}}
apiVersion: "apps/v1"
kind: "Deployment"
metadata:
  {{- include "observatory.metadata" (merge (dict "name" $name "annotations" $reload) .) | nindent 2 }}
spec:
  replicas: {{ int $spec.replicas }}
  revisionHistoryLimit: 5
  minReadySeconds: {{ int $root.Values.minReadySeconds }}
  strategy:
    {{- if and $volume (ne $volume.type "emptyDir") }}
    # The old pod may hold a ReadWriteOnce volume that the new one waits for.
    type: "Recreate"
    # Cleared, since the API server has filled it in where the type was another one before, and then refuses it.
    rollingUpdate: null
    {{- else }}
    type: "RollingUpdate"
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
    {{- end }}
  progressDeadlineSeconds: {{ add (int $root.Values.migrations.waitSeconds) (int $spec.probes.startupBudgetSeconds) (int $root.Values.minReadySeconds) 300 }}
  selector:
    matchLabels:
      {{- include "observatory.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      {{- include "observatory.podMetadata" . | nindent 6 }}
    spec:
      {{- include "observatory.podBase" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "observatory.gracePeriod" . }}
      {{- with include "observatory.scheduling" . | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      initContainers:
        {{- include "observatory.waitForSchema" . | nindent 8 }}
        {{- with include "observatory.extraContainers" $spec.extraInitContainers | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      containers:
        - name: {{ .component | quote }}
          image: {{ include "observatory.image" . | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy | quote }}
          command: ["pipeline-services"]
          args: [{{ .component | quote }}]
          env:
            {{- include "observatory.pipelineEnv" . | nindent 12 }}
            {{- with include "observatory.extraEnv" $spec.extraEnv | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          ports:
            {{- include "observatory.containerPorts" (dict "http" 0) | nindent 12 }}
          {{- $http := include "observatory.probesByHttp" (dict "root" $root "tls" $root.Values.pipeline.tls.existingSecret) }}
          {{- include "observatory.probes" (dict "probes" $spec.probes "startup" "" "http" $http) | nindent 10 }}
          resources:
            {{- include "observatory.resources" (dict "resources" $spec.resources "gpu" nil) | trim | nindent 12 }}
          securityContext:
            {{- include "observatory.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- include "observatory.commonMounts" $root | nindent 12 }}
            {{- include "observatory.configMounts" $root | nindent 12 }}
            {{- with include "observatory.databaseMounts" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with include "observatory.serverTlsMounts" $root.Values.pipeline | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- with include "observatory.callerMounts" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- if $volume }}
            - name: "reports"
              mountPath: "/reports"
            {{- end }}
            {{- if $cache.enabled }}
            - name: "cache"
              mountPath: "/cache"
            {{- end }}
            {{- with include "observatory.extraMounts" $spec | trim }}
            {{- . | nindent 12 }}
            {{- end }}
        {{- with include "observatory.extraContainers" $spec.extraContainers | trim }}
        {{- . | nindent 8 }}
        {{- end }}
      volumes:
        {{- include "observatory.commonVolumes" $root | nindent 8 }}
        {{- include "observatory.configVolumes" $root | nindent 8 }}
        {{- with include "observatory.databaseVolumes" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with include "observatory.serverTlsVolumes" $root.Values.pipeline | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with include "observatory.callerVolumes" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $volume }}
        {{- include "observatory.volume" (dict "name" "reports" "claim" $claim "volume" .) | nindent 8 }}
        {{- end }}
        {{- if $cache.enabled }}
        - name: "cache"
          emptyDir:
            sizeLimit: {{ $cache.sizeLimit | quote }}
        {{- end }}
        {{- with include "observatory.extraVolumes" $spec | trim }}
        {{- . | nindent 8 }}
        {{- end }}
{{- if and $volume (eq (get (default dict $volume) "type") "pvc") }}
---
{{ include "observatory.claim" (dict "root" $root "component" .component "claim" $claim "volume" $volume) }}
{{- end }}
---
apiVersion: "v1"
kind: "Service"
metadata:
  {{- include "observatory.metadata" (merge (dict "name" $name "annotations" $spec.service.annotations) .) | nindent 2 }}
spec:
  type: "ClusterIP"
  {{- with include "observatory.serviceFamilies" $root | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  selector:
    {{- include "observatory.selectorLabels" . | nindent 4 }}
  ports:
    {{- include "observatory.servicePorts" (dict "tls" $root.Values.pipeline.tls.existingSecret "http" 0) | nindent 4 }}
{{- end -}}
