{{/* Rules of network policies that stand in several of them. */}}

{{- define "observatory.dnsEgress" -}}
- to: {{ toJson .Values.networkPolicy.dns.to }}
  ports:
    {{- range .Values.networkPolicy.dns.ports }}
    - { port: {{ int . }}, protocol: "UDP" }
    - { port: {{ int . }}, protocol: "TCP" }
    {{- end }}
{{- end -}}

{{/* Arguments: root, to (peers; empty: any address). */}}
{{- define "observatory.databaseEgress" -}}
- ports:
    - { port: {{ int .root.Values.database.port }}, protocol: "TCP" }
  {{- with .to }}
  to: {{ toJson . }}
  {{- end }}
{{- end -}}
