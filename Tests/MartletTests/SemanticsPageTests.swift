import Foundation
import Testing

/// docs/semantics.md names a test for each rule: they must exist.
struct SemanticsPageTests {
    @Test func everyNamedTestExists() throws {
        let page = try String(contentsOfFile: "docs/semantics.md", encoding: .utf8)
        let files = try FileManager.default.subpathsOfDirectory(atPath: ".").filter {
            $0.hasSuffix(".swift") && ($0.hasPrefix("Tests/") || $0.hasPrefix("Sources/MartletSimulator/"))
        }
        let code = try files.map { try String(contentsOfFile: $0, encoding: .utf8) }.joined()
        let rows = page.split(separator: "\n").filter { $0.hasPrefix("|") && !$0.hasPrefix("|---") && !$0.hasPrefix("| rule") }
        #expect(rows.count > 30)
        for row in rows {
            let cells = row.split(separator: "|", omittingEmptySubsequences: false)
            let names = cells[cells.count - 2].components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
            #expect(!names.isEmpty || row.contains("Not promised"), "\(row) names no test")
            for name in names where !name.hasPrefix("scripts/") {
                #expect(code.contains("func \(name)(") || code.contains("var \(name):"), "there is no \(name)")
            }
        }
    }
}
