{{/* Egress rules and peers of the NetworkPolicies. A list that is empty opens nothing: its rule is left out. */}}

{{/* Addresses of the API server, as a list in JSON: those given, or else those of the cluster that Helm talks to. Both the
     endpoints and the Service's own addresses, for engines of policies differ in which of them they see. */}}
{{- define "weir.apiServerCidrs" -}}
{{- $cidrs := .Values.networkPolicy.apiServer.cidrs -}}
{{- if not $cidrs -}}
{{- $addresses := list -}}
{{- $slice := lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" -}}
{{- range $endpoint := (dig "endpoints" (list) $slice) -}}
{{- $addresses = concat $addresses $endpoint.addresses -}}
{{- end -}}
{{- $service := lookup "v1" "Service" "default" "kubernetes" -}}
{{- with dig "spec" "clusterIPs" (list) $service -}}
{{- $addresses = concat $addresses . -}}
{{- end -}}
{{- $cidrs = list -}}
{{- range uniq $addresses -}}
{{- $cidrs = append $cidrs (printf "%s/%s" . (ternary "128" "32" (contains ":" .))) -}}
{{- end -}}
{{- end -}}
{{- toJson $cidrs -}}
{{- end }}

{{/* Ports of the API server, as a list in JSON: those given, and that of the endpoints where their addresses are looked up. */}}
{{- define "weir.apiServerPorts" -}}
{{- $ports := list -}}
{{- range .Values.networkPolicy.apiServer.ports -}}{{- $ports = append $ports (int .) -}}{{- end -}}
{{- if not .Values.networkPolicy.apiServer.cidrs -}}
{{- $slice := lookup "discovery.k8s.io/v1" "EndpointSlice" "default" "kubernetes" -}}
{{- range (dig "ports" (list) $slice) -}}{{- $ports = append $ports (int .port) -}}{{- end -}}
{{- end -}}
{{- toJson (uniq $ports) -}}
{{- end }}

{{- define "weir.egressToApiServer" -}}
{{- include "weir.egressToAddresses" (dict "cidrs" (include "weir.apiServerCidrs" . | fromJsonArray) "ports" (include "weir.apiServerPorts" . | fromJsonArray)) }}
{{- end }}

{{- define "weir.egressToExternal" -}}
{{- include "weir.egressToAddresses" (dict "cidrs" .Values.networkPolicy.externalCidrs "ports" .Values.networkPolicy.externalPorts) }}
{{- end }}

{{- define "weir.egressToAddresses" -}}
{{- if and .cidrs .ports }}
- ports:
  {{- range .ports }}
  - {port: {{ int . }}, protocol: TCP}
  {{- end }}
  to:
  {{- range .cidrs }}
  - ipBlock: {{ ternary (dict "cidr" .) . (kindIs "string" .) | toJson }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "weir.egressToDns" -}}
{{- $dns := .Values.networkPolicy.dns }}
{{- if and $dns.ports (or $dns.cidrs $dns.peers) }}
- ports:
  {{- range $dns.ports }}
  - {port: {{ int . }}, protocol: UDP}
  - {port: {{ int . }}, protocol: TCP}
  {{- end }}
  to:
  {{- range $dns.peers }}
  - {{ toJson . }}
  {{- end }}
  {{- range $dns.cidrs }}
  - ipBlock: {cidr: {{ . | quote }}}
  {{- end }}
{{- end }}
{{- end }}

{{- define "weir.egressToEngines" }}
- ports: [{port: 8000, protocol: TCP}]
  to:
  - namespaceSelector: {}
    podSelector:
      matchLabels: {app.kubernetes.io/component: engine}
{{- end }}

{{/* Who may read metrics at a port. */}}
{{- define "weir.ingressOfMetrics" -}}
{{- with .root.Values.networkPolicy.metricsFrom }}
- ports: [{port: {{ $.port }}, protocol: TCP}]
  from:
  {{- range . }}
  - {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "weir.ingressOfOperator" }}
- ports: [{port: 9443, protocol: TCP}]
  from:
  - podSelector:
      matchLabels: {{- include "weir.selector" (dict "component" "operator") | nindent 8 }}
{{- end }}

{{/* A list of rules, or the empty list where there is none. */}}
{{- define "weir.rules" -}}
{{- if trim . }}
{{- . | trim | nindent 0 }}
{{- else }} []
{{- end }}
{{- end }}
