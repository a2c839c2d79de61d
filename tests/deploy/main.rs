//! What an installation is made of: the manifests, the chart that they are rendered from, the image; and the tool that
//! looks at one; and the machines that Terraform provisions for one.
#![cfg(test)]

mod chart;
mod functions;
mod image;
mod manifests;
mod plan;
mod site;
mod terraform;
mod workstation;
