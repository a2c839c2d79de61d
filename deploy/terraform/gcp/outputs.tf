output "nodes" {
  description = "Each node's address inside, its address outside, and the addresses of its pods."
  value = {
    for name, node in local.nodes : name => {
      address  = node.address
      outside  = google_compute_instance.node[name].network_interface[0].access_config[0].nat_ip
      pod_cidr = node.pod_cidr
    }
  }
}

output "pod_cidrs" {
  description = "With Kubernetes: what gives each Node the pod CIDR that the routes have for it."
  value = join("", [
    for name, node in local.nodes :
    "kubectl patch node ${name} --patch '${jsonencode({ spec = { podCIDR = node.pod_cidr, podCIDRs = [node.pod_cidr] } })}'\n"
  ])
}

output "manifests" {
  description = "Without Kubernetes: the Nodes for the agents' directory of manifests."
  value = join("---\n", [
    for name, node in local.nodes : yamlencode({
      apiVersion = "v1"
      kind       = "Node"
      metadata   = { name = name }
      spec       = { podCIDR = node.pod_cidr, podCIDRs = [node.pod_cidr] }
      status     = { addresses = [{ type = "InternalIP", address = node.address }] }
    })
  ])
}
