# Which node has which address and which pods. Everything else goes by this.

locals {
  nodes = {
    for number in range(var.nodes) : "${var.name}-${number}" => {
      address  = cidrhost(var.node_network, 10 + number)
      pod_cidr = cidrsubnet(var.pod_network, 24 - tonumber(split("/", var.pod_network)[1]), number)
    }
  }
}
