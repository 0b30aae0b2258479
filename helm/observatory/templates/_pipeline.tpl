{{/* Fails where the pods, one more of each component during an upgrade, could take more connections than the database has.
Five are kept back: three for its owner, two for the migration. */}}
{{- define "observatory.checkConnections" -}}
{{- $pods := 0 -}}
{{- range $role := include "observatory.roles" . | fromJsonArray -}}
{{- $spec := index $.Values.workers $role -}}
{{- if $spec.enabled -}}{{- $pods = add $pods $spec.replicas 1 -}}{{- end -}}
{{- end -}}
{{- if .Values.orchestrator.enabled -}}{{- $pods = add $pods .Values.orchestrator.replicas 1 -}}{{- end -}}
{{- $asked := mul $pods .Values.database.connections -}}
{{- $left := sub .Values.database.maxConnections 5 -}}
{{- if gt $asked $left -}}
{{- fail (printf "database.connections: %d for each of %d pods are %d, database.maxConnections leaves %d" (int .Values.database.connections) $pods $asked $left) -}}
{{- end -}}
{{- end }}

{{/* A role of `pipeline-services` with its Service and, for a role that writes files, its claim.
     Arguments: root, component, spec. */}}
{{- define "observatory.pipeline" -}}
{{- $root := .root -}}
{{- $spec := .spec -}}
{{- $name := printf "%s-%s" (include "observatory.fullname" $root) .component -}}
{{- $claim := printf "%s-reports" (include "observatory.fullname" $root) -}}
{{- $volume := get $spec "volume" -}}
apiVersion: "apps/v1"
kind: "Deployment"
metadata:
  name: {{ $name | quote }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "observatory.labels" . | nindent 4 }}
spec:
  replicas: {{ int $spec.replicas }}
  revisionHistoryLimit: 5
  strategy:
    {{- if and $volume (ne $volume.type "emptyDir") }}
    # The old pod may hold a ReadWriteOnce volume that the new one waits for.
    type: "Recreate"
    {{- else }}
    type: "RollingUpdate"
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
    {{- end }}
  progressDeadlineSeconds: {{ add (int $root.Values.migrations.waitSeconds) (int $spec.probes.startupBudgetSeconds) 300 }}
  selector:
    matchLabels:
      {{- include "observatory.selectorLabels" . | nindent 6 }}
  template:
    metadata:
      {{- include "observatory.podMetadata" . | nindent 6 }}
    spec:
      {{- include "observatory.podBase" . | nindent 6 }}
      terminationGracePeriodSeconds: {{ include "observatory.gracePeriod" $spec }}
      {{- with include "observatory.scheduling" (merge (dict "tolerations" $spec.tolerations) .) | trim }}
      {{- . | nindent 6 }}
      {{- end }}
      initContainers:
        {{- include "observatory.waitForSchema" . | nindent 8 }}
      containers:
        - name: {{ .component | quote }}
          image: {{ include "observatory.image" . | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy | quote }}
          command: ["pipeline-services"]
          args: [{{ .component | quote }}]
          env:
            {{- include "observatory.commonEnv" $root | nindent 12 }}
            {{- with include "observatory.configEnv" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- include "observatory.serverEnv" (dict "prefix" "OBSERVATORY" "spec" $spec) | nindent 12 }}
            {{- include "observatory.databaseEnv" . | nindent 12 }}
            - name: "OBSERVATORY_DATABASE_CONNECTIONS"
              value: {{ $root.Values.database.connections | int | toString | quote }}
            {{- include "observatory.pipelineServerEnv" $root | trim | nindent 12 }}
            {{- with include "observatory.callerEnv" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
            {{- if $volume }}
            - name: "OBSERVATORY_REPORTS"
              value: "/reports"
            {{- end }}
            {{- with include "observatory.extraEnv" $spec.extraEnv | trim }}
            {{- . | nindent 12 }}
            {{- end }}
          ports:
            {{- include "observatory.containerPorts" . | nindent 12 }}
          {{- include "observatory.probes" (dict "probes" $spec.probes "tls" $root.Values.pipeline.tls.existingSecret) | nindent 10 }}
          resources:
            {{- include "observatory.resources" (dict "resources" $spec.resources "gpu" nil) | trim | nindent 12 }}
          securityContext:
            {{- include "observatory.containerSecurity" . | nindent 12 }}
          volumeMounts:
            {{- include "observatory.commonMounts" $root | nindent 12 }}
            {{- with include "observatory.configMounts" $root | trim }}
            {{- . | nindent 12 }}
            {{- end }}
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
      volumes:
        {{- include "observatory.commonVolumes" $root | nindent 8 }}
        {{- with include "observatory.configVolumes" $root | trim }}
        {{- . | nindent 8 }}
        {{- end }}
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
{{- if and $volume (eq (get (default dict $volume) "type") "pvc") }}
---
{{ include "observatory.claim" (dict "root" $root "component" .component "claim" $claim "volume" $volume) }}
{{- end }}
---
apiVersion: "v1"
kind: "Service"
metadata:
  name: {{ $name | quote }}
  namespace: {{ $root.Release.Namespace | quote }}
  labels:
    {{- include "observatory.labels" . | nindent 4 }}
  {{- with $spec.service.annotations }}
  annotations:
    {{- range $key, $value := . }}
    {{ $key | quote }}: {{ $value | quote }}
    {{- end }}
  {{- end }}
spec:
  type: "ClusterIP"
  selector:
    {{- include "observatory.selectorLabels" . | nindent 4 }}
  ports:
    {{- include "observatory.servicePorts" (dict "tls" $root.Values.pipeline.tls.existingSecret) | nindent 4 }}
{{- end -}}
