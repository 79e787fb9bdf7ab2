import Foundation
import Testing

/// docs/semantics.md and docs/security.md name a test for each rule: they must exist.
struct SemanticsPageTests {
    @Test(arguments: ["docs/semantics.md", "docs/security.md"]) func everyNamedTestExists(_ path: String) throws {
        let page = try String(contentsOfFile: path, encoding: .utf8)
        let files = try FileManager.default.subpathsOfDirectory(atPath: ".").filter {
            $0.hasSuffix(".swift") && ($0.hasPrefix("Tests/") || $0.hasPrefix("Sources/MartletSimulator/"))
        }
        let code = try files.map { try String(contentsOfFile: $0, encoding: .utf8) }.joined()
        // Of tables with a column "held by".
        var (rows, isRule): ([Substring], Bool) = ([], false)
        for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasSuffix("| held by |") {
                isRule = true
            } else if !line.hasPrefix("|") {
                isRule = false
            } else if isRule, !line.hasPrefix("|---") {
                rows.append(line)
            }
        }
        #expect(rows.count >= 20)
        for row in rows {
            let cells = row.split(separator: "|", omittingEmptySubsequences: false)
            let names = cells[cells.count - 2].components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            #expect(!names.isEmpty || row.contains("Not promised") || row.contains("see the end of this page"), "\(row) names no test")
            for name in names where !name.hasPrefix("scripts/") && name != "CurlTransfer" {
                #expect(code.contains("func \(name)(") || code.contains("var \(name):"), "there is no \(name)")
            }
        }
    }
}
