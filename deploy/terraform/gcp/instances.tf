# The nodes.

resource "google_compute_instance" "node" {
  for_each = local.nodes

  name         = each.key
  machine_type = var.machine_type
  zone         = var.zone

  # Google drops what an instance sends from, or gets for, an address that isn't its own. Its pods' are not.
  can_ip_forward = true

  boot_disk {
    initialize_params {
      image = var.image
      size  = 20
    }
  }

  network_interface {
    subnetwork = google_compute_subnetwork.nodes.id
    network_ip = each.value.address

    # An address outside.
    access_config {}
  }

  metadata = {
    enable-oslogin = "FALSE"
    ssh-keys       = "${var.ssh_user}:${var.ssh_public_key}"
  }

  metadata_startup_script = <<-EOT
    #!/bin/sh
    set -eu
    echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/90-pods.conf
    sysctl --load /etc/sysctl.d/90-pods.conf
  EOT
}
