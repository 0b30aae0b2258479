{{/* What the schema cannot say: values that do not fit each other. Everything wrong is said at once, each as
     "invalid PATH VALUE: expected ...". */}}

{{/* Arguments: problems (a dict with a list "all"), path, value, expected. */}}
{{- define "observatory.refuse" -}}
{{- $said := printf "invalid %s %s: expected %s" .path (toJson .value) .expected -}}
{{- $_ := set .problems "all" (append .problems.all $said) -}}
{{- end -}}

{{/* A quantity as a number. Argument: the text. */}}
{{- define "observatory.quantity" -}}
{{- $factors := dict "m" 0.001 "k" 1e3 "Ki" 1024.0 "M" 1e6 "Mi" 1048576.0 "G" 1e9 "Gi" 1073741824.0 "T" 1e12 "Ti" 1099511627776.0 "P" 1e15 "Pi" 1125899906842624.0 -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $unit := trimPrefix $number . -}}
{{- mulf (float64 $number) (get $factors $unit | default 1.0) -}}
{{- end -}}

{{/* A duration in milliseconds. */}}
{{- define "observatory.milliseconds" -}}
{{- $unit := regexFind "(ms|s|m|h)$" . -}}
{{- mul (trimSuffix $unit . | int64) (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit) -}}
{{- end -}}

{{/* Names, accounts, ports: what becomes part of an object's name or of an address. */}}
{{- define "observatory.checkNames" -}}
{{- $problems := .problems -}}
{{- with .root -}}
{{- $fullname := include "observatory.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "release name or fullnameOverride" "value" $fullname "expected" "a name for Services: lower-case letters, digits and \"-\", a letter first") -}}
{{- end -}}
{{- with .Values.inference.http -}}
{{- if has (int .port) (list 50051 9464 4143 4190 4191 15000 15001 15006 15008 15020 15021 15090) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.http.port" "value" .port "expected" "a port that neither the server's gRPC and metrics nor the proxy of a mesh takes") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Arguments: problems, path, resources, shared (a quantity of memory, may be absent). */}}
{{- define "observatory.checkResources" -}}
{{- $limits := .resources.limits -}}
{{- range $name, $asked := .resources.requests -}}
{{- $limit := get $limits $name -}}
{{- $path := printf "%s.requests.%s" $.path $name -}}
{{- $whole := or (contains "/" $name) (hasPrefix "hugepages-" $name) -}}
{{- if $limit -}}
{{- $asks := include "observatory.quantity" $asked | float64 -}}
{{- $most := include "observatory.quantity" $limit | float64 -}}
{{- if gt $asks $most -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $asked "expected" (printf "at most the limit, %q" $limit)) -}}
{{- else if and $whole (ne $asks $most) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $asked "expected" (printf "the limit, %q: this resource is not overcommitted" $limit)) -}}
{{- end -}}
{{- else if $whole -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $asked "expected" "a limit of the same size") -}}
{{- end -}}
{{- end -}}
{{- with .shared -}}
{{- if ge (include "observatory.quantity" . | float64) (include "observatory.quantity" $limits.memory | float64) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" "inference.sharedMemory" "value" . "expected" (printf "less than the memory limit it counts against, %q" $limits.memory)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Claims that one node alone can mount. Arguments: problems, path, volume, replicas. */}}
{{- define "observatory.checkVolume" -}}
{{- $modes := .volume.pvc.accessModes -}}
{{- if and (eq .volume.type "pvc") (gt (int .replicas) 1) (not (has "ReadWriteMany" $modes)) -}}
{{- include "observatory.refuse" (dict "problems" .problems "path" (printf "%s.pvc.accessModes" .path) "value" $modes "expected" (printf "[\"ReadWriteMany\"], or an existingClaim, for %d replicas" (int .replicas))) -}}
{{- end -}}
{{- end -}}

{{/* The inference server: rollouts, scale and image. */}}
{{- define "observatory.checkInference" -}}
{{- $problems := .problems -}}
{{- $values := .root.Values -}}
{{- with $values.inference -}}
{{- $scale := .autoscaling -}}
{{- $replicas := ternary .replicas $scale.maxReplicas (eq $scale.type "none") -}}
{{- $volume := .models.volume -}}
{{- include "observatory.checkVolume" (dict "problems" $problems "path" "inference.models.volume" "volume" $volume "replicas" $replicas) -}}
{{- if eq .strategy.type "RollingUpdate" -}}
{{- $surge := int .strategy.rollingUpdate.maxSurge -}}
{{- $single := and (eq $volume.type "pvc") (not (has "ReadWriteMany" $volume.pvc.accessModes)) -}}
{{- if and (gt $surge 0) (or .gpu.enabled $single) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.strategy.rollingUpdate.maxSurge" "value" $surge "expected" "0: a new pod would wait for the GPU or the volume that the old one holds") -}}
{{- end -}}
{{- end -}}
{{- if ne $scale.type "none" -}}
{{- if gt (int $scale.minReplicas) (int $scale.maxReplicas) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.autoscaling.minReplicas" "value" $scale.minReplicas "expected" (printf "at most maxReplicas, %d" (int $scale.maxReplicas))) -}}
{{- end -}}
{{- if not (or $scale.queuedTokens $scale.requestsInFlight) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.autoscaling.queuedTokens" "value" 0 "expected" "a target for queuedTokens or requestsInFlight") -}}
{{- end -}}
{{- end -}}
{{- if and $values.image.digest (not .image.digest) (or .gpu.enabled .image.tag .image.repository) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.image.digest" "value" "" "expected" "a digest: image.digest pins another image than the inference server's") -}}
{{- end -}}
{{- range $name, $_ := merge (dict) .resources.requests .resources.limits -}}
{{- if hasPrefix "nvidia.com/" $name -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.resources" "value" $name "expected" "inference.gpu.resourceName in its place") -}}
{{- end -}}
{{- end -}}
{{- if and .gpu.profile (not (hasKey $values.gpuProfiles .gpu.profile)) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.gpu.profile" "value" .gpu.profile "expected" (printf "one of gpuProfiles: %s" (keys $values.gpuProfiles | sortAlpha | join ", "))) -}}
{{- end -}}
{{- if and (eq .ingress.port "http") .ingress.enabled (not .http.enabled) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "inference.ingress.port" "value" "http" "expected" "\"grpc\", or inference.http.enabled") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails where the pods, one more of each component during an upgrade, could take more connections than the database has.
Five are kept back: three for its owner, two for the migration. */}}
{{- define "observatory.checkConnections" -}}
{{- $values := .root.Values -}}
{{- $pods := include "observatory.databasePods" .root | int -}}
{{- $asked := mul $pods $values.database.connections -}}
{{- $left := sub $values.database.maxConnections 5 -}}
{{- if gt $asked $left -}}
{{- include "observatory.refuse" (dict "problems" .problems "path" "database.connections" "value" $values.database.connections "expected" (printf "less: %d for each of %d pods are %d, database.maxConnections leaves %d" (int $values.database.connections) $pods $asked $left)) -}}
{{- end -}}
{{- end -}}

{{/* Pods with connections to the database during an upgrade. Argument: the root. */}}
{{- define "observatory.databasePods" -}}
{{- $pods := 0 -}}
{{- range $role := include "observatory.roles" . | fromJsonArray -}}
{{- $spec := index $.Values.workers $role -}}
{{- if $spec.enabled -}}{{- $pods = add $pods $spec.replicas 1 -}}{{- end -}}
{{- end -}}
{{- if .Values.orchestrator.enabled -}}{{- $pods = add $pods .Values.orchestrator.replicas 1 -}}{{- end -}}
{{- $pods -}}
{{- end -}}

{{- define "observatory.checkDatabase" -}}
{{- $problems := .problems -}}
{{- $values := .root.Values -}}
{{- with $values.database -}}
{{- if .url -}}
{{- $port := regexFind ":[0-9]+$" (urlParse .url).host | trimPrefix ":" | default "5432" | int -}}
{{- if ne $port (int .port) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "database.port" "value" .port "expected" (printf "the port of database.url, %d: network policies open no other" $port)) -}}
{{- end -}}
{{- end -}}
{{- if and .ca.existingSecret (eq .sslMode "disable") -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "database.sslMode" "value" .sslMode "expected" "a mode with TLS, or no database.ca") -}}
{{- end -}}
{{- if include "observatory.makesCluster" $.root -}}
{{- if eq $values.migrations.mode "hook" -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "migrations.mode" "value" "hook" "expected" "\"job\": a hook would wait for a database that comes after it") -}}
{{- end -}}
{{- if lt (int $values.migrations.backoffLimit) 6 -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "migrations.backoffLimit" "value" $values.migrations.backoffLimit "expected" "6 or more: the first start of a Cluster takes minutes") -}}
{{- end -}}
{{- if ne (int .port) 5432 -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "database.port" "value" .port "expected" "5432, the port of a CloudNativePG Cluster") -}}
{{- end -}}
{{- if $values.migrations.existingSecret.name -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "migrations.existingSecret.name" "value" $values.migrations.existingSecret.name "expected" "\"\": the Cluster's own Secret is the owner's") -}}
{{- end -}}
{{- end -}}
{{- if and (eq .mode "cnpg") .url -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "database.url" "value" "..." "expected" "\"\" with database.mode cnpg") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* observatory.toml, from text and map. */}}
{{- define "observatory.checkConfig" -}}
{{- $problems := .problems -}}
{{- $values := .root.Values -}}
{{- $roles := include "observatory.roles" .root | fromJsonArray -}}
{{- $text := fromToml $values.config -}}
{{- if get $text "Error" -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "config" "value" "..." "expected" (printf "TOML: %s" $text.Error)) -}}
{{- else -}}
{{- range $key, $value := $text -}}
{{- if or (ne $key "modules") (not (kindIs "map" $value)) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "config.%s" $key) "value" "..." "expected" "tables [modules.NAME] alone") -}}
{{- end -}}
{{- end -}}
{{- $written := get $text "modules" -}}
{{- $all := ternary (deepCopy $written) dict (kindIs "map" $written) -}}
{{- $all = mergeOverwrite $all (deepCopy $values.modules) -}}
{{- range $name, $block := $all -}}
{{- $path := printf "modules.%s" $name -}}
{{- if not (has $name $roles) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "modules" "value" $name "expected" (printf "one of %s" (join ", " $roles))) -}}
{{- else if not (kindIs "map" $block) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" $path "value" $block "expected" "a table") -}}
{{- else -}}
{{- include "observatory.checkModule" (dict "problems" $problems "name" $name "block" $block "worker" (index $values.workers $name)) -}}
{{- end -}}
{{- end -}}
{{- $scraper := default dict (get (ternary $all dict (kindIs "map" $all)) "scraper") -}}
{{- if $values.workers.scraper.enabled -}}
{{- $contact := "" -}}
{{- if kindIs "map" $scraper -}}{{- $contact = get (default dict (get $scraper "settings")) "contact" -}}{{- end -}}
{{- if not $contact -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "modules.scraper.settings.contact" "value" "" "expected" "an address at which portals reach you, with workers.scraper.enabled") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A module's block, as pipeline-services reads it. Arguments: problems, name, block, worker. */}}
{{- define "observatory.checkModule" -}}
{{- $ranges := dict "batch_size" (list 1 10000) "max_retries" (list 0 100) "timeout" (list 1 86400) "patience" (list 0 604800) -}}
{{- range $key, $value := .block -}}
{{- $path := printf "modules.%s.%s" $.name $key -}}
{{- with get $ranges $key -}}
{{- $number := and (or (kindIs "int64" $value) (kindIs "float64" $value)) (eq (float64 $value) (floor $value)) -}}
{{- if not (and $number (ge (float64 $value) (index . 0 | float64)) (le (float64 $value) (index . 1 | float64))) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $value "expected" (printf "a whole number from %d to %d" (index . 0) (index . 1))) -}}
{{- end -}}
{{- else -}}
{{- if eq $key "enabled" -}}
{{- if ne (toJson $value) (toJson $.worker.enabled) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $value "expected" (printf "%v, as workers.%s.enabled says" $.worker.enabled $.name)) -}}
{{- end -}}
{{- else if eq $key "name" -}}
{{- if ne (toJson $value) (toJson $.name) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $value "expected" (quote $.name)) -}}
{{- end -}}
{{- else if eq $key "settings" -}}
{{- if not (kindIs "map" $value) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" $path "value" $value "expected" "a table") -}}
{{- end -}}
{{- else -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" (printf "modules.%s" $.name) "value" $key "expected" "a key of batch_size, enabled, max_retries, name, patience, settings, timeout") -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What people add to a component. Arguments: problems, path, spec, env (the chart's own, as YAML), main (the container's
     name), volumes and mounts (of the chart, names and paths). */}}
{{- define "observatory.checkExtras" -}}
{{- $problems := .problems -}}
{{- $path := .path -}}
{{- $taken := list "DATABASE_URL" "PGSSLMODE" "PGSSLROOTCERT" "HOME" -}}
{{- $env := .env -}}
{{- $seen := list -}}
{{- range .spec.extraEnv -}}
{{- $fixed := regexMatch "^OBSERVATORY_(INFERENCE_)?(LISTEN|METRICS_LISTEN|HTTP_LISTEN|TLS_CERT|TLS_KEY|TLS_CLIENT_CA|CLIENTS_FILE|ANNOUNCE_FILE|DRAIN_SECONDS|LAME_DUCK_SECONDS|CONFIG|REPORTS|CACHE|MODELS)$" .name -}}
{{- if or $fixed (has .name $taken) (contains (printf "name: %q" .name) $env) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraEnv" $path) "value" .name "expected" "a variable that the chart does not set by a value of its own") -}}
{{- end -}}
{{- if has .name $seen -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraEnv" $path) "value" .name "expected" "each variable once") -}}
{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- $volumes := list "tmp" "config" "shm" "models" "reports" "cache" "database-ca" "server-certificate" "client-ca" "clients" "server-ca" "certificate" "token" -}}
{{- $own := list -}}
{{- range .spec.extraVolumes -}}
{{- if has .name (concat $volumes $own) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraVolumes" $path) "value" .name "expected" "a name that no other volume of the pod has") -}}
{{- end -}}
{{- $own = append $own .name -}}
{{- end -}}
{{- $places := list "/" "/tmp" "/models" "/dev/shm" "/reports" "/cache" -}}
{{- range .spec.extraVolumeMounts -}}
{{- $place := trimSuffix "/" .mountPath | default "/" -}}
{{- if or (has $place $places) (hasPrefix "/etc/observatory/config" $place) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraVolumeMounts" $path) "value" .mountPath "expected" "a place where nothing else is mounted") -}}
{{- end -}}
{{- $places = append $places $place -}}
{{- if not (has .name $own) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraVolumeMounts" $path) "value" .name "expected" (printf "a volume of %s.extraVolumes" $path)) -}}
{{- end -}}
{{- end -}}
{{- $containers := list .main "wait-for-schema" -}}
{{- range concat .spec.extraContainers .spec.extraInitContainers -}}
{{- if has .name $containers -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraContainers" $path) "value" .name "expected" "a name that no other container of the pod has") -}}
{{- end -}}
{{- $containers = append $containers .name -}}
{{- include "observatory.checkResources" (dict "problems" $problems "path" (printf "%s.extraContainers.%s.resources" $path .name) "resources" .resources) -}}
{{- range .volumeMounts -}}
{{- if not (has .name (append $own "tmp")) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.extraContainers.volumeMounts" $path) "value" .name "expected" (printf "\"tmp\" or a volume of %s.extraVolumes" $path)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $spreads := list -}}
{{- range .spec.topologySpreadConstraints -}}
{{- $pair := printf "%s %s" .topologyKey .whenUnsatisfiable -}}
{{- if has $pair $spreads -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.topologySpreadConstraints" $path) "value" .topologyKey "expected" "each pair of topologyKey and whenUnsatisfiable once") -}}
{{- end -}}
{{- $spreads = append $spreads $pair -}}
{{- end -}}
{{- end -}}

{{/* The parts of an address as numbers, as JSON: four of 8 bits, or eight of 16. Argument: the text. */}}
{{- define "observatory.address" -}}
{{- $parts := list -}}
{{- if contains ":" . -}}
{{- $halves := splitList "::" . -}}
{{- $first := compact (splitList ":" (first $halves)) -}}
{{- $last := compact (splitList ":" (ternary (last $halves) "" (contains "::" .))) -}}
{{- range $first -}}{{- $parts = append $parts (int64 (printf "0x%s" .)) -}}{{- end -}}
{{- range until (sub (sub 8 (len $first)) (len $last) | int) -}}{{- $parts = append $parts 0 -}}{{- end -}}
{{- range $last -}}{{- $parts = append $parts (int64 (printf "0x%s" .)) -}}{{- end -}}
{{- else -}}
{{- range splitList "." . -}}{{- $parts = append $parts (int64 .) -}}{{- end -}}
{{- end -}}
{{- toJson $parts -}}
{{- end -}}

{{/* "true" where a network is a part of another one, and smaller. Arguments: inner, outer. */}}
{{- define "observatory.isInside" -}}
{{- $inner := splitList "/" .inner -}}
{{- $outer := splitList "/" .outer -}}
{{- $bits := index $outer 1 | int -}}
{{- $same := and (eq (contains ":" .inner) (contains ":" .outer)) (gt (index $inner 1 | int) $bits) -}}
{{- if $same -}}
{{- $width := ternary 16 8 (contains ":" .inner) -}}
{{- $theirs := include "observatory.address" (index $outer 0) | fromJsonArray -}}
{{- range $at, $part := include "observatory.address" (index $inner 0) | fromJsonArray -}}
{{- $left := sub $bits (mul $at $width) | int -}}
{{- if gt $left 0 -}}
{{- $size := 1 -}}
{{- range until (max 0 (sub $width $left) | int) -}}{{- $size = mul $size 2 -}}{{- end -}}
{{- if ne (div (int64 $part) $size) (div (index $theirs $at | int64) $size) -}}{{- $same = false -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $same -}}true{{- end -}}
{{- end -}}

{{/* Arguments: problems, path, peers. */}}
{{- define "observatory.checkPeers" -}}
{{- range .peers -}}
{{- with .ipBlock -}}
{{- $block := . -}}
{{- range .except -}}
{{- if not (include "observatory.isInside" (dict "inner" . "outer" $block.cidr)) -}}
{{- include "observatory.refuse" (dict "problems" $.problems "path" (printf "%s.ipBlock.except" $.path) "value" . "expected" (printf "a part of %s" $block.cidr)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.checkNetwork" -}}
{{- $problems := .problems -}}
{{- $values := .root.Values -}}
{{- $policy := $values.networkPolicy -}}
{{- $lists := dict "dns.to" $policy.dns.to "database.to" $policy.database.to "clients.from" $policy.clients.from "inference.from" $policy.inference.from "inference.httpFrom" $policy.inference.httpFrom "metrics.from" $policy.metrics.from -}}
{{- range $path, $peers := $lists -}}
{{- include "observatory.checkPeers" (dict "problems" $problems "path" (printf "networkPolicy.%s" $path) "peers" $peers) -}}
{{- end -}}
{{- range $component, $rules := $policy.extraEgress -}}
{{- $path := printf "networkPolicy.extraEgress.%s" $component -}}
{{- range $rules -}}
{{- include "observatory.checkPeers" (dict "problems" $problems "path" $path "peers" .to) -}}
{{- range .ports -}}
{{- if and .endPort (lt (int .endPort) (int .port)) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "%s.endPort" $path) "value" .endPort "expected" (printf "at least the port, %d" (int .port))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $policy.enabled -}}
{{- range $component, $peers := dict "inference" (list "inference.from" $policy.inference.from) "orchestrator" (list "clients.from" $policy.clients.from) -}}
{{- $spec := index $values $component -}}
{{- $http := and (eq $component "inference") (eq $spec.ingress.port "http") -}}
{{- if and $spec.enabled (or $spec.grpcRoute.enabled (and $spec.ingress.enabled (not $http))) (not (index $peers 1)) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "networkPolicy.%s" (index $peers 0)) "value" (list) "expected" (printf "the pods of the gateway that %s.grpcRoute or %s.ingress sends here" $component $component)) -}}
{{- end -}}
{{- end -}}
{{- if and $values.inference.enabled $values.inference.ingress.enabled (eq $values.inference.ingress.port "http") (not $policy.inference.httpFrom) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "networkPolicy.inference.httpFrom" "value" (list) "expected" "the pods of the gateway that inference.ingress sends here") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.checkMonitoring" -}}
{{- $problems := .problems -}}
{{- with .root.Values.monitoring -}}
{{- range $kind, $monitor := dict "serviceMonitor" .serviceMonitor "podMonitor" .podMonitor -}}
{{- if gt (include "observatory.milliseconds" $monitor.scrapeTimeout | int64) (include "observatory.milliseconds" $monitor.interval | int64) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "monitoring.%s.scrapeTimeout" $kind) "value" $monitor.scrapeTimeout "expected" (printf "at most the interval, %q" $monitor.interval)) -}}
{{- end -}}
{{- end -}}
{{- if and .serviceMonitor.enabled .podMonitor.enabled -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "monitoring.podMonitor.enabled" "value" true "expected" "false where serviceMonitor is enabled: every sample would be read twice") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.checkMesh" -}}
{{- $problems := .problems -}}
{{- $root := .root -}}
{{- with $root.Values.mesh -}}
{{- if and (eq .mode "none") (or .strictMtls .authorization.enabled) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "mesh.mode" "value" .mode "expected" "a mesh for mesh.strictMtls and mesh.authorization") -}}
{{- end -}}
{{- if and .metricsNamespace (not (include "observatory.sidecars" $root)) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "mesh.metricsNamespace" "value" .metricsNamespace "expected" (printf "\"\": mesh.mode %q has no proxies in the pods" .mode)) -}}
{{- end -}}
{{- $linkerd := eq .mode "linkerd" -}}
{{- $form := ternary "^([*]|[a-z0-9]([-a-z0-9]*[a-z0-9])?)([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" "^([*]|[^/]+)/ns/[^/]+/sa/[^/]+$" $linkerd -}}
{{- $example := ternary "NAME.NAMESPACE.serviceaccount.identity.linkerd.cluster.local" "cluster.local/ns/NAMESPACE/sa/NAME" $linkerd -}}
{{- range $list := list "inferenceCallers" "orchestratorCallers" -}}
{{- range index $root.Values.mesh.authorization $list -}}
{{- if not (regexMatch $form .) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" (printf "mesh.authorization.%s" $list) "value" . "expected" (printf "an identity such as %q" $example)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if .nativeSidecars -}}
{{- if not (include "observatory.sidecars" $root) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "mesh.nativeSidecars" "value" true "expected" (printf "false: mesh.mode %q has no sidecars" .mode)) -}}
{{- else if semverCompare "<1.29.0-0" $root.Capabilities.KubeVersion.Version -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "mesh.nativeSidecars" "value" true "expected" (printf "false before Kubernetes 1.29, this is %s" $root.Capabilities.KubeVersion.Version)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "observatory.checkSchedules" -}}
{{- $problems := .problems -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $pipeline := $values.pipeline -}}
{{- $workers := dict "scrape" "scraper" "extract" "extractor" "enhance" "enhancer" "embed" "embedder" "analyze" "analyzer" "report" "reporter" -}}
{{- $names := list -}}
{{- range $values.schedules -}}
{{- $full := printf "%s-%s" (include "observatory.fullname" $root) .name -}}
{{- if gt (len $full) 52 -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "schedules.name" "value" .name "expected" (printf "a shorter name: %s has more than the 52 characters of a CronJob" $full)) -}}
{{- end -}}
{{- if has .name $names -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "schedules.name" "value" .name "expected" "each name once") -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- range (default dict .run).stages -}}
{{- $worker := get $workers . -}}
{{- if not (index $values.workers $worker).enabled -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "schedules.run.stages" "value" . "expected" (printf "a stage whose worker runs: workers.%s.enabled is false" $worker)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $values.schedules -}}
{{- if not $values.orchestrator.enabled -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "orchestrator.enabled" "value" false "expected" "true: schedules call the orchestrator") -}}
{{- end -}}
{{- $meshed := include "observatory.isMeshed" (dict "root" $root "component" "schedule" "server" false) -}}
{{- $token := and $pipeline.credentials.token.existingSecret (or $pipeline.tls.existingSecret $meshed) -}}
{{- if not (or $token $pipeline.credentials.certificate.existingSecret (has "run" $pipeline.anonymous) (has "admin" $pipeline.anonymous)) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "pipeline.credentials" "value" "" "expected" "what schedules show to the orchestrator: a certificate, a token with TLS or inside of a mesh, or \"run\" in pipeline.anonymous") -}}
{{- end -}}
{{- if and (include "observatory.sidecars" $root) (not $meshed) (or $values.mesh.strictMtls $values.mesh.authorization.enabled) -}}
{{- include "observatory.refuse" (dict "problems" $problems "path" "mesh.nativeSidecars" "value" false "expected" "true: schedules have to be in the mesh that admits nobody else") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Argument: the root. */}}
{{- define "observatory.validate" -}}
{{- $problems := dict "all" list -}}
{{- $both := dict "problems" $problems "root" . -}}
{{- include "observatory.checkNames" $both -}}
{{- include "observatory.checkConfig" $both -}}
{{- $values := .Values -}}
{{- include "observatory.checkInference" $both -}}
{{- include "observatory.checkConnections" $both -}}
{{- include "observatory.checkDatabase" $both -}}
{{- include "observatory.checkNetwork" $both -}}
{{- include "observatory.checkMonitoring" $both -}}
{{- include "observatory.checkMesh" $both -}}
{{- include "observatory.checkSchedules" $both -}}
{{- $reporter := $values.workers.reporter -}}
{{- include "observatory.checkVolume" (dict "problems" $problems "path" "workers.reporter.volume" "volume" $reporter.volume "replicas" $reporter.replicas) -}}
{{- $sized := dict "inference" $values.inference.resources "orchestrator" $values.orchestrator.resources "migrations" $values.migrations.resources "tests" $values.tests.resources "database.cnpg" $values.database.cnpg.resources -}}
{{- range $role, $spec := $values.workers -}}{{- $_ := set $sized (printf "workers.%s" $role) $spec.resources -}}{{- end -}}
{{- range $path, $resources := $sized -}}
{{- include "observatory.checkResources" (dict "problems" $problems "path" (printf "%s.resources" $path) "resources" $resources "shared" (ternary $values.inference.sharedMemory "" (eq $path "inference"))) -}}
{{- end -}}
{{- include "observatory.checkResources" (dict "problems" $problems "path" "scheduleResources" "resources" $values.scheduleResources) -}}
{{- include "observatory.checkExtras" (dict "problems" $problems "path" "inference" "spec" $values.inference "env" (include "observatory.inferenceEnv" .) "main" "inference-server") -}}
{{- range $component, $spec := merge (dict "orchestrator" $values.orchestrator) $values.workers -}}
{{- $path := ternary "orchestrator" (printf "workers.%s" $component) (eq $component "orchestrator") -}}
{{- $env := include "observatory.pipelineEnv" (dict "root" $ "component" $component "spec" $spec) -}}
{{- include "observatory.checkExtras" (dict "problems" $problems "path" $path "spec" $spec "env" $env "main" $component) -}}
{{- end -}}
{{- with $problems.all -}}
{{- fail (printf "\n%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end -}}
