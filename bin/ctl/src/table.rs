//! Text in columns.

/// Lines whose columns are as wide as their widest field, two blanks apart.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|field| field.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let fields = row.iter().zip(&widths).map(|(field, &width)| format!("{field:width$}"));
        text.push_str(fields.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The heading and one line for each row.
pub(crate) fn headed(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let heading = heading.iter().map(|field| (*field).to_owned()).collect();
    columns(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_field() {
        let rows = ["a b", "ccc d"].map(|row| row.split(' ').map(str::to_owned).collect());
        assert_eq!(headed(&["", "NAME"], rows), "     NAME\na    b\nccc  d\n");
    }
}
