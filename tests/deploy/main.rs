//! What an installation is made of: the manifests, the chart that they are rendered from, the image; and the tool that
//! looks at one.
#![cfg(test)]

mod chart;
mod image;
mod manifests;
mod site;
mod workstation;
