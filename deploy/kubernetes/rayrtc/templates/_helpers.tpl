{{/* The name of everything. KubeRay appends to it, so it stays short. */}}
{{- define "rayrtc.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "rayrtc.labels" -}}
app.kubernetes.io/name: rayrtc
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{/* Of one part: (dict "root" . "part" "control-plane"). */}}
{{- define "rayrtc.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
rayrtc/part: {{ .part }}
{{- end -}}

{{- define "rayrtc.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "rayrtc.secret" -}}
{{ default (include "rayrtc.name" .) .Values.secret.existing }}
{{- end -}}

{{- define "rayrtc.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "rayrtc.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end -}}

{{/* `rayrtc` with these arguments, and files for the connections of thousands of clients: runtimes give
     1024. `exec` hands SIGTERM to it. (list "control-plane" "app:stream") */}}
{{- define "rayrtc.command" -}}
- /bin/sh
- -c
- ulimit -n 65536 2>/dev/null || true; exec "$@"
- sh
- rayrtc
{{- range . }}
- {{ . | quote }}
{{- end }}
{{- end -}}

{{/* A number of the values: Helm has floats, and would write large ones as 1e+06. */}}
{{- define "rayrtc.number" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* Settings by name as environment variables. */}}
{{- define "rayrtc.settings" -}}
{{- range $name, $value := . }}
- {name: RAYRTC_{{ upper $name }}, value: {{ include "rayrtc.number" $value | quote }}}
{{- end }}
{{- end -}}

{{/* What all our services need. */}}
{{- define "rayrtc.env" -}}
{{- if .Values.redis.bundled.enabled }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "rayrtc.name" . }}-redis, key: password}}
- {name: RAYRTC_REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@{{ include "rayrtc.name" . }}-redis:6379/0"}
{{- else }}
- name: RAYRTC_REDIS_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "redis.external.secret is needed without redis.bundled" .Values.redis.external.secret }}
      key: {{ .Values.redis.external.urlKey }}
{{- end }}
- name: RAYRTC_CLUSTER_SECRET
  valueFrom: {secretKeyRef: {name: {{ include "rayrtc.secret" . }}, key: cluster-secret}}
{{- if or .Values.turn.urls .Values.turn.workerUrl }}
- name: RAYRTC_TURN_SECRET
  valueFrom: {secretKeyRef: {name: {{ include "rayrtc.secret" . }}, key: turn-secret}}
{{- end }}
{{- end -}}

{{/* Ray's own, the same for the head, its autoscaler and the workers. */}}
{{- define "rayrtc.rayEnv" -}}
- {name: RAY_AUTH_MODE, value: token}
- name: RAY_AUTH_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "rayrtc.secret" . }}, key: ray-token}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- end -}}

{{/* What a program with the URL of Redis needs: also the head, where Ray may put the pool's supervisor. */}}
{{- define "rayrtc.redisVolumes" -}}
{{- if and (not .Values.redis.bundled.enabled) .Values.redis.external.caSecret }}
- name: redis-ca
  secret: {secretName: {{ .Values.redis.external.caSecret }}}
{{- end }}
{{- end -}}

{{- define "rayrtc.redisMounts" -}}
{{- if and (not .Values.redis.bundled.enabled) .Values.redis.external.caSecret }}
- {name: redis-ca, mountPath: /etc/rayrtc/redis, readOnly: true}
{{- end }}
{{- end -}}

{{- define "rayrtc.volumes" -}}
{{- include "rayrtc.redisVolumes" . }}
{{- if .Values.app.files }}
- name: app
  configMap: {name: {{ include "rayrtc.name" . }}-app}
{{- end }}
{{- end -}}

{{- define "rayrtc.volumeMounts" -}}
{{- include "rayrtc.redisMounts" . }}
{{- if .Values.app.files }}
- {name: app, mountPath: /app, readOnly: true}
{{- end }}
{{- end -}}

{{/* Evenly over nodes and zones, if they can be: (dict of labels). */}}
{{- define "rayrtc.spread" -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- toYaml $ | nindent 6 }}
{{- end }}
{{- end -}}

{{/* What `rayrtc workers` sets for its own node (workers/ray_node.py): the head needs it as well. */}}
{{- define "rayrtc.faultDetection" -}}
RAY_health_check_initial_delay_ms: "1000"
RAY_health_check_period_ms: "500"
RAY_health_check_timeout_ms: "1000"
RAY_health_check_failure_threshold: "3"
RAY_grpc_client_keepalive_time_ms: "10000"
RAY_grpc_client_keepalive_timeout_ms: "5000"
{{- end -}}
