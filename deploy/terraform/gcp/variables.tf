variable "name" {
  description = "What everything is called, and the beginning of the nodes' names: NAME-0, NAME-1, and so on."
  type        = string
  default     = "pods"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", var.name))
    error_message = "name: lower-case letters, digits and dashes, a letter first, at most 32 characters."
  }
}

variable "project" {
  description = "The id of the project."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: the id of a project, as my-project-1234."
  }
}

variable "zone" {
  description = "The zone, as europe-west3-a. The subnet is its region's."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", var.zone))
    error_message = "zone: as europe-west3-a."
  }
}

variable "machine_type" {
  description = "The instances' type; amd64."
  type        = string
  default     = "e2-medium"

  validation {
    condition     = can(regex("^[a-z0-9]+-[a-z0-9-]+$", var.machine_type))
    error_message = "machine_type: as e2-medium."
  }
}

variable "image" {
  description = "What the boot disks are made of."
  type        = string
  default     = "debian-cloud/debian-13"

  validation {
    condition     = length(var.image) > 0
    error_message = "image: a project and a family, as debian-cloud/debian-13."
  }
}

variable "mtu" {
  description = "The network's MTU. The nodes have it from there, and the pods from the nodes."
  type        = number
  default     = 1460

  validation {
    condition     = var.mtu >= 1300 && var.mtu <= 8896
    error_message = "mtu: from 1300 to 8896."
  }
}

variable "ssh_user" {
  description = "Who the public key opens the instances for."
  type        = string
  default     = "debian"

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]*$", var.ssh_user))
    error_message = "ssh_user: the name of a user."
  }
}

variable "nodes" {
  description = "How many instances there are. Each takes a route: mind the quota of static routes of a network."
  type        = number
  default     = 3

  validation {
    condition     = var.nodes >= 1 && var.nodes <= 200 && floor(var.nodes) == var.nodes
    error_message = "nodes: from 1 to 200."
  }
}

variable "node_network" {
  description = "The addresses of the nodes: the subnet. The node with the number 0 has the tenth."
  type        = string
  default     = "10.0.0.0/24"

  validation {
    condition     = can(regex("/(1[6-9]|2[0-4])$", var.node_network)) && can(cidrhost(var.node_network, 0))
    error_message = "node_network: an IPv4 network with a prefix length from 16 to 24, as 10.0.0.0/24."
  }
}

variable "pod_network" {
  description = "The addresses of all pods. Each node has the next /24 of it."
  type        = string
  default     = "10.244.0.0/16"

  validation {
    condition     = can(regex("/(8|9|1[0-8])$", var.pod_network)) && can(cidrhost(var.pod_network, 0))
    error_message = "pod_network: an IPv4 network with a prefix length from 8 to 18, as 10.244.0.0/16."
  }

  # The one, cut to the other's length, is the other: then one is in the other.
  validation {
    condition = (
      cidrhost("${split("/", var.pod_network)[0]}/${split("/", var.node_network)[1]}", 0) != cidrhost(var.node_network, 0)
      && cidrhost("${split("/", var.node_network)[0]}/${split("/", var.pod_network)[1]}", 0) != cidrhost(var.pod_network, 0)
    )
    error_message = "pod_network: must not overlap node_network."
  }
}

variable "admin_networks" {
  description = "From where ssh and the Kubernetes API are reached: yours, as [\"203.0.113.7/32\"]."
  type        = list(string)

  validation {
    condition     = length(var.admin_networks) > 0 && alltrue([for network in var.admin_networks : can(cidrhost(network, 0))])
    error_message = "admin_networks: at least one network, as 203.0.113.7/32."
  }
}

variable "ssh_public_key" {
  description = "The public key that opens the instances, as a line of ~/.ssh/id_ed25519.pub."
  type        = string

  validation {
    condition     = can(regex("^(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+", var.ssh_public_key))
    error_message = "ssh_public_key: a line as \"ssh-ed25519 AAAA… you@where\"."
  }
}
