{{- define "selvedge.labels" -}}
app.kubernetes.io/name: selvedge
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "selvedge.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- /* The configuration file: the keys that aren't null, sorted. */ -}}
{{- define "selvedge.config" -}}
{{- $keys := dict -}}
{{- range $key, $value := .Values.config -}}
{{- if not (kindIs "invalid" $value) -}}
{{- $_ := set $keys $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $keys -}}
{{- end }}

{{- /* Where the node's folders are in the container. */ -}}
{{- define "selvedge.folders" -}}
- --config=/etc/selvedge/config.yaml
- --cni-conf-dir=/host/etc/cni/net.d
- --cni-bin-dir=/host/opt/cni/bin
- --run-dir={{ .Values.paths.runDir }}
- --sysctl-dir=/host/proc/sys
{{- end }}

{{- define "selvedge.env" -}}
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- if ne .Values.paths.runDir "/run/selvedge" }}
# For selvedgectl, when it is executed here.
- name: SELVEDGE_RUN_DIR
  value: {{ .Values.paths.runDir }}
{{- end }}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
{{- end }}
{{- with .Values.apiServer.port }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- /* Root of the node's network and of nothing else. */ -}}
{{- define "selvedge.securityContext" -}}
privileged: false
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsUser: 0
runAsGroup: 0
capabilities:
  drop: [ALL]
  add: [NET_ADMIN]
seccompProfile:
  type: RuntimeDefault
{{- with .Values.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "selvedge.mounts" -}}
- name: config
  mountPath: /etc/selvedge
  readOnly: true
- name: cni-conf
  mountPath: /host/etc/cni/net.d
- name: cni-bin
  mountPath: /host/opt/cni/bin
# The parent of the run directory, which may be made anew. Without the propagation, copies of what is mounted there
# would keep the network namespaces of pods that are gone.
- name: run
  mountPath: /run
  mountPropagation: HostToContainer
# The sysctls of the node's network: a container's own /proc/sys is read-only.
- name: sysctl-net
  mountPath: /host/proc/sys/net
{{- end }}
