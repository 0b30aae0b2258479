{{/* The alerts as a list of alert, expr, for, severity, summary. Each has a section of docs/runbook.md, and asks for metrics
     that the servers have; `namespace` and `pod` are labels of the scrape. Argument: the root. */}}
{{- define "observatory.alerts" -}}
{{- $fullname := include "observatory.fullname" . -}}
{{- $own := printf "namespace=%q,pod=~\"%s-.+\"" .Release.Namespace $fullname -}}
{{- if .Values.inference.enabled }}
- alert: "ObservatoryModelNotReady"
  expr: {{ printf "min by (namespace, pod, model) (observatory_inference_model_ready{%s}) == 0" $own | quote }}
  for: "15m"
  severity: "critical"
  summary: "The model {{`{{ $labels.model }}`}} does not answer on {{`{{ $labels.pod }}`}}, which keeps the pod out of service"
- alert: "ObservatoryNoModel"
  expr: {{ printf "up{%s,pod=~\"%s-inference-.+\"} == 1 unless on (namespace, pod) count by (namespace, pod) (observatory_inference_model_ready{%s})" (printf "namespace=%q" .Release.Namespace) $fullname $own | quote }}
  for: "15m"
  severity: "warning"
  summary: "{{`{{ $labels.pod }}`}} serves no model: its store is empty"
- alert: "ObservatoryInferenceOverloaded"
  expr: {{ printf "sum by (namespace, pod) (rate(observatory_inference_refused_total{%s,reason=\"OVERLOADED\"}[5m])) > 0.1" $own | quote }}
  for: "10m"
  severity: "warning"
  summary: "{{`{{ $labels.pod }}`}} refuses work for lack of capacity"
- alert: "ObservatoryInferenceQueueFull"
  expr: {{ printf "observatory_inference_queued_tokens{%s} / (observatory_inference_token_limit{%s} > 0) > 0.9" $own $own | quote }}
  for: "10m"
  severity: "warning"
  summary: "Nine tenths of the tokens that may wait on {{`{{ $labels.pod }}`}} do"
- alert: "ObservatoryInferenceErrors"
  expr: {{ printf "sum by (namespace, pod) (rate(observatory_inference_requests_total{%s,code=~\"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS\"}[5m])) / (sum by (namespace, pod) (rate(observatory_inference_requests_total{%s}[5m])) > 0) > 0.05" $own $own | quote }}
  for: "10m"
  severity: "critical"
  summary: "More than one call of twenty to {{`{{ $labels.pod }}`}} fails"
- alert: "ObservatoryInferenceSlow"
  expr: {{ printf "histogram_quantile(0.95, sum by (namespace, pod, le) (rate(observatory_inference_queue_wait_seconds_bucket{%s}[5m]))) > 15" $own | quote }}
  for: "15m"
  severity: "warning"
  summary: "Work waits for more than 15 s for the device of {{`{{ $labels.pod }}`}}"
- alert: "ObservatoryKvCacheSmall"
  expr: {{ printf "sum by (namespace, pod, model) (rate(observatory_inference_preemptions_total{%s}[15m])) > 0.1" $own | quote }}
  for: "30m"
  severity: "warning"
  summary: "The KV cache of {{`{{ $labels.model }}`}} on {{`{{ $labels.pod }}`}} is small: sequences are computed again"
{{- end }}
- alert: "ObservatoryTasksFail"
  expr: {{ printf "sum by (namespace, stage) (increase(observatory_stage_tasks_failed_total{%s}[30m])) > 10" $own | quote }}
  for: "5m"
  severity: "warning"
  summary: "Tasks of the stage {{`{{ $labels.stage }}`}} fail for good"
- alert: "ObservatoryTasksRetried"
  expr: {{ printf "sum by (namespace, stage) (rate(observatory_stage_tasks_retried_total{%s}[15m])) / (sum by (namespace, stage) (rate(observatory_stage_tasks_succeeded_total{%s}[15m])) + sum by (namespace, stage) (rate(observatory_stage_tasks_retried_total{%s}[15m])) > 0) > 0.5" $own $own $own | quote }}
  for: "30m"
  severity: "warning"
  summary: "More tasks of the stage {{`{{ $labels.stage }}`}} are tried again than succeed"
- alert: "ObservatoryStageWaits"
  expr: {{ printf "sum by (namespace, stage) (rate(observatory_stage_tasks_put_off_total{%s}[15m])) > 0 unless sum by (namespace, stage) (rate(observatory_stage_tasks_succeeded_total{%s}[15m])) > 0" $own $own | quote }}
  for: "30m"
  severity: "warning"
  summary: "The stage {{`{{ $labels.stage }}`}} waits for a dependency and finishes nothing"
- alert: "ObservatoryTargetDown"
  expr: {{ printf "up{%s} == 0" $own | quote }}
  for: "10m"
  severity: "critical"
  summary: "{{`{{ $labels.pod }}`}} does not answer for its metrics"
{{- end -}}
