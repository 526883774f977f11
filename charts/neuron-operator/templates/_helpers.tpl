{{- define "neuron-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "neuron-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "neuron-operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "neuron-operator.selectorLabels" . }}
{{- end -}}

{{- define "neuron-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "neuron-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must name an existing ServiceAccount when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "neuron-operator.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "neuron-operator.settings" -}}
{{- $platform := .Values.platform -}}
{{- if not $platform.defaultArtifactStore -}}
{{- $platform = omit $platform "defaultArtifactStore" -}}
{{- end -}}
{{- if not $platform.trustedCertificates -}}
{{- $platform = omit $platform "trustedCertificates" -}}
{{- end -}}
{{- toYaml $platform -}}
{{- end -}}

{{/* Where the operator's container finds the certificates that the platform trusts. */}}
{{- define "neuron-operator.certificatesDir" -}}
/etc/trusted-certificates
{{- end -}}

{{/* The platform's proxy and certificates as the operator's own environment. */}}
{{- define "neuron-operator.platformEnvironment" -}}
{{- $proxy := .Values.platform.proxy -}}
{{- if or $proxy.httpProxy $proxy.httpsProxy -}}
{{- range $name, $value := dict "HTTP_PROXY" $proxy.httpProxy "HTTPS_PROXY" $proxy.httpsProxy -}}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
- name: {{ lower $name }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}
{{- /* The API server, and what hands out credentials: EKS Pod Identity over IPv4 and IPv6, and the instance. */ -}}
{{- $direct := list "$(KUBERNETES_SERVICE_HOST)" "169.254.170.23" "fd00:ec2::23" "169.254.169.254" "localhost" "127.0.0.1" "::1" -}}
{{- $noProxy := join "," (concat (compact (list $proxy.noProxy)) $direct) }}
- name: NO_PROXY
  value: {{ $noProxy | quote }}
- name: no_proxy
  value: {{ $noProxy | quote }}
{{- end -}}
{{- if .Values.platform.trustedCertificates -}}
{{- range list "AWS_CA_BUNDLE" "REQUESTS_CA_BUNDLE" "SSL_CERT_FILE" }}
- name: {{ . }}
  value: {{ include "neuron-operator.certificatesDir" $ }}/ca.crt
{{- end -}}
{{- end -}}
{{- end -}}
