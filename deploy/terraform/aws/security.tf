# Who may send what to the nodes.

resource "aws_key_pair" "admin" {
  key_name   = var.name
  public_key = var.ssh_public_key
}

resource "aws_security_group" "nodes" {
  name        = var.name
  description = "Nodes of ${var.name} and their pods"
  vpc_id      = aws_vpc.this.id
  tags        = { Name = var.name }
}

# By this rule come the nodes' own addresses, and those alone: a group stands for its interfaces' addresses.
resource "aws_vpc_security_group_ingress_rule" "nodes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Nodes to nodes: Kubernetes, and transports that wrap pods' packets"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.nodes.id
}

# And by this one pods, which send from addresses of their own.
resource "aws_vpc_security_group_ingress_rule" "pods" {
  security_group_id = aws_security_group.nodes.id
  description       = "Pods to pods and nodes: transports that leave pods' packets as they are"
  ip_protocol       = "-1"
  cidr_ipv4         = var.pod_network
}

resource "aws_vpc_security_group_ingress_rule" "ssh" {
  for_each = toset(var.admin_networks)

  security_group_id = aws_security_group.nodes.id
  description       = "ssh"
  ip_protocol       = "tcp"
  from_port         = 22
  to_port           = 22
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_ingress_rule" "api" {
  for_each = toset(var.admin_networks)

  security_group_id = aws_security_group.nodes.id
  description       = "Kubernetes API"
  ip_protocol       = "tcp"
  from_port         = 6443
  to_port           = 6443
  cidr_ipv4         = each.value
}

resource "aws_vpc_security_group_egress_rule" "all" {
  security_group_id = aws_security_group.nodes.id
  description       = "Everything"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}
