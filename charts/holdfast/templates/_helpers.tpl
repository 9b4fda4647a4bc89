{{- define "holdfast.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "holdfast.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "holdfast.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "holdfast.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.webhook" -}}
{{- include "holdfast.fullname" . }}-webhook
{{- end -}}

{{/* Of objects without a namespace: two releases in two namespaces keep theirs apart. */}}
{{- define "holdfast.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "holdfast.webhook" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Not empty where the webhook asks the API server for something, and so needs its ServiceAccount's token. */}}
{{- define "holdfast.asksApi" -}}
{{- if or (eq .Values.webhook.certificate.source "self") .Values.podService.enabled .Values.namespaceDefaults }}true{{ end -}}
{{- end -}}

{{- define "holdfast.selector" -}}
app.kubernetes.io/name: {{ include "holdfast.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end -}}

{{- define "holdfast.labels" -}}
{{ include "holdfast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: holdfast
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "holdfast.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end -}}

{{- define "holdfast.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "holdfast.webhook" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name has to be said where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "holdfast.certificateSecret" -}}
{{- if eq .Values.webhook.certificate.source "secret" -}}
{{- required "webhook.certificate.secretName has to be said with source: secret" .Values.webhook.certificate.secretName -}}
{{- else -}}
{{- include "holdfast.webhook" . }}-tls
{{- end -}}
{{- end -}}

{{/* What the webhook reads; docs/kubernetes.md, "Settings". Sorted by toPrettyJson, so the same values give the same text. */}}
{{- define "holdfast.settings" -}}
{{- $injection := .Values.injection -}}
{{- $settings := dict
  "cluster" (required "cluster has to be said: the name of this cluster, first part of every lineage" .Values.cluster)
  "image" (include "holdfast.image" .)
  "imagePullPolicy" .Values.image.pullPolicy
  "imageOverride" $injection.imageOverride
  "defaults" .Values.defaults
  "namespaces" .Values.namespaces
  "policies" .Values.policies
  "stores" .Values.stores
  "unknownUser" $injection.unknownUser
  "platform" $injection.platform
  "hostNetwork" $injection.hostNetwork
  "startAfter" $injection.startAfter
  "metricsPort" $injection.metricsPort
-}}
{{- if .Values.podService.enabled -}}
{{- $url := printf "https://%s.%s.svc" (include "holdfast.webhook" .) .Release.Namespace -}}
{{- $service := dict "url" (default $url .Values.podService.url) "audience" .Values.podService.audience -}}
{{- if eq .Values.webhook.certificate.source "secret" -}}
{{- $_ := set $service "ca" (b64dec .Values.webhook.certificate.caBundle) -}}
{{- end -}}
{{- $_ := set $settings "service" $service -}}
{{- end -}}
{{- if not .Values.stores -}}
{{- fail "stores has to hold one store or more, such as default: {address: s3://bucket/prefix, namespaces: ['*']}" -}}
{{- end -}}
{{- if $injection.uploadBytesPerSecond -}}
{{- $_ := set $settings "uploadBytesPerSecond" ($injection.uploadBytesPerSecond | int64) -}}
{{- end -}}
{{- toPrettyJson $settings -}}
{{- end -}}

{{/* Where pods are asked about at all. */}}
{{- define "holdfast.namespaceSelector" -}}
matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: NotIn
    values:
      - kube-system
      - kube-node-lease
      - {{ .Release.Namespace }}
      {{- range .Values.webhook.excludedNamespaces }}
      - {{ . }}
      {{- end }}
{{- end -}}
