# The network, and the routes that carry the pods' packets from node to node.

resource "aws_vpc" "this" {
  cidr_block           = var.node_network
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "nodes" {
  vpc_id                  = aws_vpc.this.id
  cidr_block              = var.node_network
  availability_zone       = var.availability_zone
  map_public_ip_on_launch = true
  tags                    = { Name = var.name }
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_route_table" "nodes" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_route_table_association" "nodes" {
  subnet_id      = aws_subnet.nodes.id
  route_table_id = aws_route_table.nodes.id
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.nodes.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

# What is for a node's pods goes to that node's interface.
resource "aws_route" "pods" {
  for_each = local.nodes

  route_table_id         = aws_route_table.nodes.id
  destination_cidr_block = each.value.pod_cidr
  network_interface_id   = aws_instance.node[each.key].primary_network_interface_id
}
