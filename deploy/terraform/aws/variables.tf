variable "name" {
  description = "What everything is called, and the beginning of the nodes' names: NAME-0, NAME-1, and so on."
  type        = string
  default     = "pods"

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$", var.name))
    error_message = "name: lower-case letters, digits and dashes, a letter first, at most 32 characters."
  }
}

variable "region" {
  description = "The region, as eu-central-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: as eu-central-1."
  }
}

variable "availability_zone" {
  description = "The zone of the one subnet; null: one that AWS chooses."
  type        = string
  default     = null
}

variable "instance_type" {
  description = "The instances' type; amd64."
  type        = string
  default     = "t3.medium"

  validation {
    condition     = can(regex("^[a-z0-9-]+\\.[a-z0-9-]+$", var.instance_type))
    error_message = "instance_type: as t3.medium."
  }
}

variable "image" {
  description = "The AMI; null: the newest Debian 13 for amd64."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("^ami-[0-9a-f]+$", var.image))
    error_message = "image: the id of an AMI, as ami-0123456789abcdef0."
  }
}

variable "nodes" {
  description = "How many instances there are. Each takes a route: mind the quota of routes of a route table, 50 unless raised."
  type        = number
  default     = 3

  validation {
    condition     = var.nodes >= 1 && var.nodes <= 200 && floor(var.nodes) == var.nodes
    error_message = "nodes: from 1 to 200."
  }
}

variable "node_network" {
  description = "The addresses of the nodes: the VPC, and its one subnet. The node with the number 0 has the tenth."
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
