//! What an installation is made of: the manifests, the chart that they are rendered from, the image, the machines that
//! Terraform provisions; and the tool that looks at one.
#![cfg(test)]

mod chart;
mod functions;
mod image;
mod manifests;
mod plan;
mod site;
mod terraform;
mod workstation;
