# The nodes.

data "aws_ami" "debian" {
  count = var.image == null ? 1 : 0

  most_recent = true
  owners      = ["136693071363"] # Debian

  filter {
    name   = "name"
    values = ["debian-13-amd64-*"]
  }
}

resource "aws_instance" "node" {
  for_each = local.nodes

  ami                         = var.image == null ? data.aws_ami.debian[0].id : var.image
  instance_type               = var.instance_type
  key_name                    = aws_key_pair.admin.key_name
  subnet_id                   = aws_subnet.nodes.id
  vpc_security_group_ids      = [aws_security_group.nodes.id]
  private_ip                  = each.value.address
  associate_public_ip_address = true

  # AWS drops what an instance sends from, or gets for, an address that isn't its own. Its pods' are not.
  source_dest_check = false

  user_data = <<-EOT
    #!/bin/sh
    set -eu
    hostnamectl set-hostname ${each.key}
    echo 'net.ipv4.ip_forward = 1' > /etc/sysctl.d/90-pods.conf
    sysctl --load /etc/sysctl.d/90-pods.conf
  EOT

  metadata_options {
    http_tokens = "required"
  }

  root_block_device {
    volume_size = 20
    volume_type = "gp3"
  }

  tags = { Name = each.key }

  # A newer image is no reason to make the nodes anew.
  lifecycle {
    ignore_changes = [ami]
  }
}
