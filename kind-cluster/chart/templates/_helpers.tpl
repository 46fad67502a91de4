{{- define "fairlead.selector" -}}
app.kubernetes.io/name: fairlead
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "fairlead.labels" -}}
{{ include "fairlead.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: fairlead
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* Names of what belongs to no namespace: two installs in one cluster must not share them. */}}
{{- define "fairlead.clusterName" -}}
{{ .Release.Name }}:{{ .Release.Namespace }}
{{- end }}

{{- define "fairlead.tokens" -}}
{{ .Values.apiTokensSecret | default (printf "%s-api-tokens" .Release.Name) }}
{{- end }}
