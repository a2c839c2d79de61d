# The network, who may send what to the nodes, and the routes that carry the pods' packets from node to node.

locals {
  region = join("-", slice(split("-", var.zone), 0, 2))
}

resource "google_compute_network" "this" {
  name                    = var.name
  auto_create_subnetworks = false
  mtu                     = var.mtu
}

resource "google_compute_subnetwork" "nodes" {
  name          = var.name
  region        = local.region
  network       = google_compute_network.this.id
  ip_cidr_range = var.node_network
}

# Nodes send from their own addresses, pods from theirs.
resource "google_compute_firewall" "inside" {
  name          = "${var.name}-inside"
  description   = "Nodes and pods of ${var.name} to each other"
  network       = google_compute_network.this.id
  source_ranges = [var.node_network, var.pod_network]

  allow {
    protocol = "all"
  }
}

resource "google_compute_firewall" "admin" {
  name          = "${var.name}-admin"
  description   = "ssh and the Kubernetes API"
  network       = google_compute_network.this.id
  source_ranges = var.admin_networks

  allow {
    protocol = "tcp"
    ports    = ["22", "6443"]
  }
}

# What is for a node's pods goes to that node.
resource "google_compute_route" "pods" {
  for_each = local.nodes

  name        = each.key
  description = "Pods of ${each.key}"
  network     = google_compute_network.this.id
  dest_range  = each.value.pod_cidr
  next_hop_ip = google_compute_instance.node[each.key].network_interface[0].network_ip
  priority    = 100
}
